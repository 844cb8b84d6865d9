/**
 * HTTP layer below the typed client:
 *
 * - unsafe requests carry the CSRF header, auth requests ask for cookies instead of tokens;
 * - a 401 causes one refresh, shared by all requests of this tab and, through a lock, by all tabs (refresh tokens rotate,
 *   and reuse of one is treated as theft by the server);
 * - an unsuccessful response becomes an `ApiError` with detail, request id and retry delay.
 */

export class ApiError extends Error {
  override name = 'ApiError';
  constructor(
    /** HTTP status; 0 without a response. */
    readonly status: number,
    readonly detail: string,
    readonly requestId: string | null = null,
    /** `Retry-After` in seconds. */
    readonly retryAfter: number | null = null,
    /** Refused because the audit log was altered from outside. */
    readonly tampered: boolean = false,
  ) {
    super(detail);
  }
  get offline(): boolean {
    return this.status === 0;
  }
}

/** Request timeouts. */
const TIMEOUT_MS = 20_000;
const LAUNCH_TIMEOUT_MS = 60_000;
const REFRESHED_AT = 'portcullis.refreshed';

let onSignedOut: (() => void) | null = null;
/** Registers a callback for a 401 that a refresh did not resolve. */
export function whenSignedOut(callback: () => void): void {
  onSignedOut = callback;
}

function isAuthEntry(path: string): boolean {
  return path.startsWith('/api/auth/') && path !== '/api/auth/me' && path !== '/api/auth/logout';
}

/** Time of the last refresh of any tab; 0 when unknown. */
function refreshedAt(): number {
  try {
    return Number(localStorage.getItem(REFRESHED_AT)) || 0;
  } catch {
    return 0;
  }
}

/**
 * The gateway sets a script-readable marker cookie beside the token cookies. Without it a request would be refused.
 */
export function isSignedOut(): boolean {
  return typeof document !== 'undefined' && !/(?:^|;\s*)__Host-portcullis-here=1/.test(document.cookie);
}

/** Records that cookies were set (`true`) or removed. */
export function markSignedIn(signedIn: boolean): void {
  try {
    if (signedIn) localStorage.setItem(REFRESHED_AT, String(Date.now()));
    else localStorage.removeItem(REFRESHED_AT);
  } catch {
    // Without storage tabs do not share the time; the lock still serializes refreshes.
  }
}

async function refreshNow(before: number): Promise<boolean> {
  // Another tab may have refreshed while this one waited for the lock.
  if (isSignedOut()) return false;
  if (refreshedAt() >= before) return true;
  const answer = await send(
    new Request(new URL('/api/auth/refresh', location.origin), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{}',
    }),
  );
  if (answer.status >= 500 || answer.status === 429) throw await toError(answer);
  markSignedIn(answer.ok);
  return answer.ok;
}

let pendingRefresh: Promise<boolean> | null = null;
function refresh(before: number): Promise<boolean> {
  pendingRefresh ??= withRefreshLock(() => refreshNow(before)).finally(() => {
    pendingRefresh = null;
  });
  return pendingRefresh;
}

/** Runs `act` under a lock shared by all tabs. */
async function withRefreshLock(act: () => Promise<boolean>): Promise<boolean> {
  return 'locks' in navigator ? await navigator.locks.request('portcullis.refresh', act) : await act();
}

/** How far the gateway's clock is ahead of this one, in milliseconds; within the resolution of `Date` it counts as the same. */
let clockAhead = 0;
const CLOCK_RESOLUTION_MS = 2_000;

/** The time of the gateway. */
export const gatewayNow = (): number => Date.now() + clockAhead;

function readClock(answer: Response): Response {
  const ahead = Date.parse(answer.headers.get('Date') ?? '') - Date.now();
  if (!Number.isNaN(ahead)) clockAhead = Math.abs(ahead) > CLOCK_RESOLUTION_MS ? ahead : 0;
  return answer;
}

async function send(request: Request): Promise<Response> {
  const path = new URL(request.url).pathname;
  const headers = new Headers(request.headers);
  if (request.method !== 'GET' && request.method !== 'HEAD') headers.set('X-Portcullis-Csrf', '1');
  if (path.startsWith('/api/auth/')) headers.set('X-Portcullis-Session', 'cookie');
  const limit = AbortSignal.timeout(path.endsWith('/launch') ? LAUNCH_TIMEOUT_MS : TIMEOUT_MS);
  try {
    return readClock(await fetch(new Request(request, { headers, credentials: 'same-origin', signal: AbortSignal.any([request.signal, limit]) })));
  } catch (cause) {
    if (request.signal.aborted) throw cause;
    throw new ApiError(0, limit.aborted ? 'No answer in time' : 'No connection');
  }
}

/** `fetch` of the typed client. */
export async function guardedFetch(request: Request): Promise<Response> {
  const entry = isAuthEntry(new URL(request.url).pathname);
  if (!entry && isSignedOut()) {
    onSignedOut?.();
    return new Response('{"detail":"Not signed in"}', { status: 401, headers: { 'Content-Type': 'application/json' } });
  }
  const again = request.clone();
  const started = Date.now();
  const answer = await send(request);
  if (answer.status !== 401 || entry) return answer;
  if (await refresh(started)) {
    const second = await send(again);
    if (second.status !== 401) return second;
  }
  onSignedOut?.();
  return answer;
}

export async function toError(response: Response, body?: unknown): Promise<ApiError> {
  let parsed = body;
  if (parsed === undefined) parsed = await response.json().catch(() => null);
  const detail =
    parsed && typeof parsed === 'object' && 'detail' in parsed && typeof parsed.detail === 'string'
      ? parsed.detail
      : '';
  const wait = Number(response.headers.get('Retry-After'));
  return new ApiError(response.status, detail, response.headers.get('X-Request-Id'), wait > 0 ? wait : null, response.headers.get('X-Portcullis-Audit') === 'tampered');
}
