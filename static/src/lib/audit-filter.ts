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

/** An instant for `<input type="datetime-local">`, in the reader's zone. */
export function toLocalField(iso: string | undefined): string {
  const ms = iso ? Date.parse(iso) : NaN;
  if (Number.isNaN(ms)) return '';
  return new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** The other way: what the field says, as an exact instant. */
export function fromLocalField(value: string): string | undefined {
  const ms = value ? new Date(value).getTime() : NaN;
  return Number.isNaN(ms) ? undefined : new Date(ms).toISOString();
}
