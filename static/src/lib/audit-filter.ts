/** The audit page's filters as they stand in its address, and back. */
import type { AuditFilter } from '../api/types';

export const FILTER_KEYS = ['q', 'actor', 'action', 'outcome', 'workspace_id', 'session_id', 'from', 'to'] as const;

export function readFilter(query: URLSearchParams): AuditFilter {
  const filter: AuditFilter = {};
  for (const key of FILTER_KEYS) {
    const value = query.get(key)?.trim();
    if (value) filter[key] = value;
  }
  return filter;
}

const MINUTE_MS = 60_000;

/** Local times that occur twice, as clocks are set back, and the later instant: the field's text alone means the earlier one. */
const later = new Map<string, number>();

/** An instant for `<input type="datetime-local">`, in the reader's zone. */
export function toLocalField(iso: string | undefined): string {
  const ms = iso ? Date.parse(iso) : NaN;
  if (Number.isNaN(ms)) return '';
  const text = new Date(ms - new Date(ms).getTimezoneOffset() * MINUTE_MS).toISOString().slice(0, 16);
  const minute = Math.floor(ms / MINUTE_MS) * MINUTE_MS;
  if (new Date(text).getTime() === minute) later.delete(text);
  else later.set(text, minute);
  return text;
}

/** The other way: what the field says, as an exact instant; of a time that occurs twice the one that was last shown. */
export function fromLocalField(value: string): string | undefined {
  const ms = later.get(value) ?? (value ? new Date(value).getTime() : NaN);
  return Number.isNaN(ms) ? undefined : new Date(ms).toISOString();
}
