// @vitest-environment jsdom
/** The end of a session that is near: what is shown, read out and offered when. */
import { describe, expect, it, vi } from 'vitest';
import type { Session } from '../src/api/types';
import { durationText, extension } from '../src/lib/extension';
import { upcoming } from '../src/lib/format';
import { viewer } from '../src/lib/strings';
import { ReadOut, deadline } from '../src/viewer/core/time-left';
import { TimeLeft, type TimeLeftActions } from '../src/viewer/ui/time-left';
import { session as fixture } from './pages/fixtures';

const NOW = Date.parse('2026-03-05T15:00:00.000Z');
const at = (ms: number) => new Date(NOW + ms).toISOString();
const MIN = 60_000;

const session = (left: number, more: Partial<Session> = {}): Session =>
  fixture({ expires_at: at(left), extendable_until: null, idle_timeout_seconds: null, idle_ends_at: null, ...more });

describe('the end that is near', () => {
  it('is shown from ten minutes on, and urgent from two', () => {
    expect(deadline(session(10 * MIN + 1), NOW)).toBeNull();
    expect(deadline(session(10 * MIN), NOW)).toEqual({ kind: 'expires', left: 10 * MIN, urgent: false });
    expect(deadline(session(2 * MIN), NOW)).toEqual({ kind: 'expires', left: 2 * MIN, urgent: true });
    expect(deadline(session(-MIN), NOW)?.left).toBe(0);
    expect(deadline(session(MIN, { status: 'terminated' }), NOW)).toBeNull();
    expect(deadline(null, NOW)).toBeNull();
  });

  it('is for want of input, when that comes first', () => {
    const idle = (left: number, timeout: number) => deadline(session(60 * MIN, { idle_ends_at: at(left), idle_timeout_seconds: timeout }), NOW);
    expect(idle(10 * MIN, 3600)).toEqual({ kind: 'idle', left: 10 * MIN, urgent: false });
    expect(idle(MIN, 3600)?.urgent).toBe(true);
    // Of a short idle timeout half is over first, or it would be shown all the time.
    expect(idle(4 * MIN, 300)).toBeNull();
    expect(idle(2.5 * MIN, 300)?.kind).toBe('idle');
    expect(deadline(session(MIN, { idle_ends_at: at(2 * MIN), idle_timeout_seconds: 3600 }), NOW)?.kind).toBe('expires');
  });

  it('is read out at ten, two and one minute, each once', () => {
    const readOut = new ReadOut();
    const said: (number | null)[] = [];
    for (let left = 11 * MIN; left >= 0; left -= 1000) {
      const minutes = readOut.next(deadline(session(left), NOW));
      if (minutes !== null) said.push(minutes);
    }
    expect(said).toEqual([10, 2, 1]);
    // After an extension it is read out anew.
    readOut.next(deadline(session(40 * MIN), NOW));
    expect(readOut.next(deadline(session(9 * MIN), NOW))).toBe(9);
    expect(readOut.next(deadline(session(8 * MIN), NOW))).toBeNull();
  });
});

describe('an extension', () => {
  it('is half an hour, or what is left of the room', () => {
    expect(extension(session(5 * MIN))).toBeNull();
    expect(extension(session(5 * MIN, { extendable_until: at(5 * 60 * MIN) }))).toBe(30 * MIN);
    expect(extension(session(5 * MIN, { extendable_until: at(12 * MIN) }))).toBe(7 * MIN);
    expect(extension(session(5 * MIN, { extendable_until: at(5 * MIN) }))).toBeNull();
    expect([durationText(30 * MIN), durationText(90_500)]).toEqual(['30m', '90s']);
  });
});

describe('times to come', () => {
  it('name the day when it is another', () => {
    const noon = new Date(2026, 2, 5, 12).getTime();
    const local = (day: number) => new Date(2026, 2, day, 18, 30).toISOString();
    expect(upcoming(local(5), noon)).toBe('18:30');
    expect(upcoming(local(6), noon)).toBe('tomorrow 18:30');
    expect(upcoming(local(9), noon)).toMatch(/9.*18:30/);
  });
});

function show(first: Session, more: Partial<TimeLeftActions> = {}, viewOnly = false) {
  document.body.replaceChildren();
  let now = NOW;
  const actions = { extend: vi.fn(async () => session(35 * MIN)), extended: vi.fn(), explain: () => 'It may last 12 hours in all.', stay: vi.fn(), now: () => now, ...more };
  const left = new TimeLeft(actions);
  document.body.append(left.element);
  left.show(first, viewOnly);
  const get = (id: string) => document.querySelector(`[data-testid=${id}]`) as HTMLElement;
  const visible = (id: string) => !get(id).hidden && !get('time-left').hidden;
  return { left, actions, get, visible, pass: (ms: number) => { now += ms; return left.tick(); } };
}

describe('the countdown above the desktop', () => {
  it('appears by itself, counts, and is read out politely', () => {
    const { get, visible, pass } = show(session(11 * MIN));
    expect(visible('time-left')).toBe(false);
    const live = get('time-left-live');
    expect(live.getAttribute('aria-live')).toBe('polite');
    expect(live.textContent).toBe('');
    pass(MIN);
    expect(visible('time-left')).toBe(true);
    expect(get('time-left-clock').textContent).toBe(viewer.ends.clock('10:00'));
    expect(live.textContent).toContain(viewer.ends.minutes(10));
    pass(8 * MIN);
    expect(get('time-left').dataset.urgent).toBe('true');
    expect(live.textContent).toContain(viewer.ends.minutes(2));
    expect(get('time-left-advice').textContent).toBe(viewer.ends.save);
    expect(visible('time-left-extend')).toBe(false);
    pass(90_000);
    expect(live.textContent).toContain(viewer.ends.minutes(1));
  });

  it('extends where the workspace allows it, and goes away', async () => {
    const { left, actions, get, visible } = show(session(5 * MIN, { extendable_until: at(60 * MIN) }), { extended: (fresh) => left.show(fresh, false) });
    expect(visible('time-left-extend')).toBe(true);
    expect(get('time-left-extend').textContent).toBe(viewer.ends.extend('30 min'));
    get('time-left-extend').click();
    await vi.waitFor(() => expect(visible('time-left')).toBe(false));
    expect(actions.extend).toHaveBeenCalledWith('30m');
    expect(get('time-left-live').textContent).toMatch(/^It now ends at/);
  });

  it('says why an extension was refused', async () => {
    const { get, visible } = show(session(5 * MIN, { extendable_until: at(60 * MIN) }), { extend: () => Promise.reject(new Error('409')) });
    get('time-left-extend').click();
    await vi.waitFor(() => expect(visible('time-left-problem')).toBe(true));
    expect(get('time-left-problem').textContent).toBe('It may last 12 hours in all.');
    expect((get('time-left-extend') as HTMLButtonElement).disabled).toBe(false);
  });

  it('tells who looks only how to stay', () => {
    const idle = session(60 * MIN, { idle_ends_at: at(MIN), idle_timeout_seconds: 1800, extendable_until: at(600 * MIN) });
    const normal = show(idle);
    expect(normal.get('time-left-advice').textContent).toBe(viewer.ends.idle);
    expect(normal.visible('time-left-extend')).toBe(false);
    expect(normal.visible('time-left-stay')).toBe(false);
    const viewOnly = show(idle, {}, true);
    expect(viewOnly.visible('time-left-stay')).toBe(true);
    viewOnly.get('time-left-stay').click();
    expect(viewOnly.actions.stay).toHaveBeenCalled();
  });
});
