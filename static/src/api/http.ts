/**
 * The browser's side of the gateway's HTTP rules, under the typed client:
 *
 * - every unsafe request carries the CSRF header, every auth request asks for cookies instead of tokens;
 * - a 401 is answered by one refresh, shared by all waiting requests of this tab and, through a lock, by all tabs
 *   (the refresh token rotates: two tabs that refresh with the same one would look like theft to the server);
 * - an answer that is not a success becomes an `ApiError` with the words, the request id and the time to wait.
 */

export class ApiError extends Error {
  override name = 'ApiError';
  constructor(
    /** HTTP status; 0 when no answer came at all. */
    readonly status: number,
    readonly detail: string,
    readonly requestId: string | null = null,
    /** Seconds to wait before another try, when the server said so. */
    readonly retryAfter: number | null = null,
  ) {
    super(detail);
  }
  get offline(): boolean {
    return this.status === 0;
  }
}

/** How long one request may take before it counts as unanswered. A launch may take longer than the rest. */
const TIMEOUT_MS = 20_000;
const LAUNCH_TIMEOUT_MS = 60_000;
const REFRESHED_AT = 'portcullis.refreshed';

let onSignedOut: (() => void) | null = null;
/** Called when a request was refused and the refresh did not help. */
export function whenSignedOut(callback: () => void): void {
  onSignedOut = callback;
}

function isAuthEntry(path: string): boolean {
  return path.startsWith('/api/auth/') && path !== '/api/auth/me' && path !== '/api/auth/logout';
}

/** When this browser last got cookies, for its tabs to share; 0 when that is not known. */
function refreshedAt(): number {
  try {
    return Number(localStorage.getItem(REFRESHED_AT)) || 0;
  } catch {
    return 0;
  }
}

/**
 * The gateway leaves a mark beside the cookies that scripts cannot read. Without it nobody is signed in with this
 * browser, and asking would only be refused.
 */
export function nobodyIsHere(): boolean {
  return typeof document !== 'undefined' && !/(?:^|;\s*)__Host-portcullis-here=1/.test(document.cookie);
}

/** Notes that cookies were just given (`true`) or are gone. */
export function markSignedIn(signedIn: boolean): void {
  try {
    if (signedIn) localStorage.setItem(REFRESHED_AT, String(Date.now()));
    else localStorage.removeItem(REFRESHED_AT);
  } catch {
    // Without storage the tabs cannot tell each other; the lock still keeps them one after the other.
  }
}

async function refreshNow(before: number): Promise<boolean> {
  // Another tab may have refreshed while this one waited for the lock: its cookies are ours too.
  if (nobodyIsHere()) return false;
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

let flying: Promise<boolean> | null = null;
function refresh(before: number): Promise<boolean> {
  flying ??= alone(() => refreshNow(before)).finally(() => {
    flying = null;
  });
  return flying;
}

/** Runs `act` while no other tab does. */
async function alone(act: () => Promise<boolean>): Promise<boolean> {
  return 'locks' in navigator ? await navigator.locks.request('portcullis.refresh', act) : await act();
}

async function send(request: Request): Promise<Response> {
  const path = new URL(request.url).pathname;
  const headers = new Headers(request.headers);
  if (request.method !== 'GET' && request.method !== 'HEAD') headers.set('X-Portcullis-Csrf', '1');
  if (path.startsWith('/api/auth/')) headers.set('X-Portcullis-Session', 'cookie');
  const limit = AbortSignal.timeout(path.endsWith('/launch') ? LAUNCH_TIMEOUT_MS : TIMEOUT_MS);
  try {
    return await fetch(new Request(request, { headers, credentials: 'same-origin', signal: AbortSignal.any([request.signal, limit]) }));
  } catch (cause) {
    if (request.signal.aborted) throw cause;
    throw new ApiError(0, limit.aborted ? 'No answer in time' : 'No connection');
  }
}

/** What the typed client calls instead of `fetch`. */
export async function guardedFetch(request: Request): Promise<Response> {
  const entry = isAuthEntry(new URL(request.url).pathname);
  if (!entry && nobodyIsHere()) {
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
  return new ApiError(response.status, detail, response.headers.get('X-Request-Id'), wait > 0 ? wait : null);
}
