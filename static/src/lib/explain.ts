/** Maps an error to a title, a hint and the details for support. */
import { ApiError } from '../api/http';
import { errors as e } from './strings';

export interface Explanation {
  title: string;
  hint: string;
  /** Detail from the server. */
  detail: string | null;
  requestId: string | null;
  status: number | null;
  /** The gateway did not answer. */
  offline: boolean;
}

export function explain(error: unknown): Explanation {
  if (!(error instanceof ApiError)) return { ...e.server, detail: null, requestId: null, status: null, offline: false };
  const explanation =
    error.status === 0
      ? e.offline
      : error.tampered
        ? e.tampered
        : error.status === 401
        ? e.unauthorized
        : error.status === 403
          ? e.forbidden
          : error.status === 404
            ? e.notFound
            : error.status === 409 || error.status === 423
              ? e.conflict
              : error.status === 429
                ? e.tooMany(error.retryAfter)
                : error.status === 503
                  ? e.unavailable
                  : error.status >= 500
                    ? e.server
                    : e.invalid;
  const serverDetail = error.offline ? null : error.detail || null;
  return { ...explanation, detail: serverDetail, requestId: error.requestId, status: error.status || null, offline: error.offline };
}
