/** The request log's filters, from the query string. */
import type { RequestFilter } from '../api/types';

export const REQUEST_KEYS = ['method', 'path', 'status', 'ended'] as const;

export function readRequestFilter(query: URLSearchParams): RequestFilter {
  const filter: RequestFilter = {};
  for (const key of REQUEST_KEYS) {
    const value = query.get(key)?.trim();
    if (value) filter[key] = value;
  }
  return filter;
}
