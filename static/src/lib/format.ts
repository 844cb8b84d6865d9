/** Formats times, durations and sizes; `now` is an argument. */
import { time as t } from './strings';

const DAY_MS = 86_400_000;

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const clockSeconds = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const dayMonth = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const dayMonthYear = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', year: 'numeric' });

function midnight(ms: number): number {
  return new Date(ms).setHours(0, 0, 0, 0);
}

/** "Today 14:03", "Yesterday 14:03", "3 Nov 14:03", "3 Nov 2024 14:03", the date as the browser writes it; with seconds where order matters. */
export function moment(iso: string | null | undefined, now: number, seconds = false): string {
  const ms = iso ? Date.parse(iso) : NaN;
  if (Number.isNaN(ms)) return '–';
  const at = (seconds ? clockSeconds : clock).format(ms);
  const days = Math.round((midnight(now) - midnight(ms)) / DAY_MS);
  if (days === 0) return t.today(at);
  if (days === 1) return t.yesterday(at);
  const sameYear = new Date(ms).getFullYear() === new Date(now).getFullYear();
  return `${(sameYear ? dayMonth : dayMonthYear).format(ms)} ${at}`;
}

/** A time to come: "14:03", "tomorrow 14:03", "3 Nov 14:03". */
export function upcoming(iso: string | null | undefined, now: number): string {
  const ms = iso ? Date.parse(iso) : NaN;
  if (Number.isNaN(ms)) return '–';
  const days = Math.round((midnight(ms) - midnight(now)) / DAY_MS);
  if (days === 0) return clock.format(ms);
  return days === 1 ? t.tomorrow(clock.format(ms)) : moment(iso, now);
}

/** The exact instant, for the tooltip. */
export function utc(iso: string | null | undefined): string {
  const ms = iso ? Date.parse(iso) : NaN;
  return Number.isNaN(ms) ? '' : `${new Date(ms).toISOString().replace('T', ' ').replace('Z', '')} UTC`;
}

/** A running clock: "0:42", "12:03", "1:02:03", "2 days 3:04:05". */
export function stopwatch(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  const days = Math.floor(s / 86_400);
  const h = Math.floor((s % 86_400) / 3600);
  const m = Math.floor((s % 3600) / 60);
  const two = (n: number) => String(n).padStart(2, '0');
  const tail = h > 0 || days > 0 ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
  return days > 0 ? `${t.days(days)} ${tail}` : tail;
}

/** "42 s", "12 min", "1 h 5 min", "2 days 3 h": two units at most. */
export function span(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return t.seconds(s);
  const min = Math.floor(s / 60);
  if (min < 60) return min < 10 && s % 60 ? `${t.minutes(min)} ${t.seconds(s % 60)}` : t.minutes(min);
  const h = Math.floor(min / 60);
  if (h < 24) return min % 60 ? `${t.hours(h)} ${t.minutes(min % 60)}` : t.hours(h);
  const d = Math.floor(h / 24);
  return h % 24 ? `${t.days(d)} ${t.hours(h % 24)}` : t.days(d);
}

/** "Just now", "12 s ago", "3 min ago". */
export function ago(iso: string | null | undefined, now: number): string {
  const ms = iso ? Date.parse(iso) : NaN;
  if (Number.isNaN(ms)) return '–';
  const passed = now - ms;
  if (passed < 5_000) return t.justNow;
  const s = Math.floor(passed / 1000);
  if (s < 60) return t.ago(t.seconds(s));
  if (s < 3600) return t.ago(t.minutes(Math.floor(s / 60)));
  if (s < 86_400) return t.ago(t.hours(Math.floor(s / 3600)));
  return t.ago(t.days(Math.floor(s / 86_400)));
}

/** "812 B", "4.2 kB", "1.3 GB". */
export function bytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = Math.max(0, n);
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function since(iso: string | null | undefined, until: number): number {
  const ms = iso ? Date.parse(iso) : NaN;
  return Number.isNaN(ms) ? 0 : Math.max(0, until - ms);
}
