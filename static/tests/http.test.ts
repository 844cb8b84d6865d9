import { beforeEach, describe, expect, it, vi } from 'vitest';

/** Browser globals used by the HTTP layer. */
const storage = new Map<string, string>();
let queue: Promise<unknown> = Promise.resolve();
vi.stubGlobal('navigator', { locks: { request: (_name: string, act: () => Promise<unknown>) => (queue = queue.then(act, act)) } });
vi.stubGlobal('location', { origin: 'https://portal.test' });
vi.stubGlobal('localStorage', { getItem: (key: string) => storage.get(key) ?? null, setItem: (key: string, value: string) => storage.set(key, value), removeItem: (key: string) => storage.delete(key) });

type Answer = (request: Request) => Response | Promise<Response>;
let answer: Answer;
const requests: Request[] = [];
vi.stubGlobal('fetch', async (request: Request) => {
  requests.push(request);
  return answer(request);
});
const path = (request: Request) => new URL(request.url).pathname;
const json = (status: number, body: unknown, headers?: Record<string, string>) => new Response(JSON.stringify(body), { status, headers });

async function fresh() {
  vi.resetModules();
  storage.clear();
  storage.set('portcullis.refreshed', '1');
  requests.length = 0;
  return { http: await import('../src/api/http'), calls: await import('../src/api/calls') };
}
let m: Awaited<ReturnType<typeof fresh>>;
beforeEach(async () => {
  m = await fresh();
});

describe('requests', () => {
  it('carry the CSRF header when unsafe, and ask for cookies when they sign in', async () => {
    answer = () => json(200, { mfa_required: true });
    await m.calls.login('a@b', 'secret');
    await m.calls.workspaces();
    await m.calls.launch('ws-linux-desktop');
    const header = (n: number, name: string) => requests[n]?.headers.get(name) ?? null;
    expect([header(0, 'X-Portcullis-Csrf'), header(0, 'X-Portcullis-Session')]).toEqual(['1', 'cookie']);
    expect([header(1, 'X-Portcullis-Csrf'), header(1, 'X-Portcullis-Session')]).toEqual([null, null]);
    expect([header(2, 'X-Portcullis-Csrf'), header(2, 'X-Portcullis-Session')]).toEqual(['1', null]);
    expect(requests.map(path)).toEqual(['/api/auth/login', '/api/workspaces', '/api/workspaces/ws-linux-desktop/launch']);
  });

  it('turn error responses into errors with detail, request id and retry delay', async () => {
    answer = () => json(429, { detail: 'Too many attempts' }, { 'X-Request-Id': 'req-1', 'Retry-After': '30' });
    await expect(m.calls.login('a@b', 'x')).rejects.toMatchObject({ status: 429, detail: 'Too many attempts', requestId: 'req-1', retryAfter: 30 });
  });

  it('report a missing response as offline', async () => {
    answer = () => Promise.reject(new TypeError('failed'));
    await expect(m.calls.workspaces()).rejects.toMatchObject({ status: 0, offline: true });
  });
});

describe('a 401', () => {
  it('causes one refresh shared by all waiting requests, which are then repeated', async () => {
    let signedIn = false;
    answer = async (request) => {
      if (path(request) === '/api/auth/refresh') {
        await new Promise((done) => setTimeout(done, 5));
        signedIn = true;
        return json(200, {});
      }
      return signedIn ? json(200, []) : json(401, { detail: 'Not authenticated' });
    };
    await Promise.all([m.calls.workspaces(), m.calls.activeSessions(), m.calls.users()]);
    expect(requests.filter((request) => path(request) === '/api/auth/refresh').length).toBe(1);
  });

  it('keeps the body for the repeated request', async () => {
    let first = true;
    const bodies: string[] = [];
    answer = async (request) => {
      if (path(request) === '/api/auth/refresh') return json(200, {});
      bodies.push(await request.text());
      if (!first) return json(201, {});
      first = false;
      return json(401, { detail: 'Not authenticated' });
    };
    await m.calls.createUser({ email: 'a@b', name: 'A', password: 'p', role: 'member' });
    expect(bodies[0]).toContain('a@b');
    expect(bodies[1]).toBe(bodies[0]);
  });

  it('means signed out when the refresh is refused', async () => {
    answer = () => json(401, { detail: 'Invalid or expired token' });
    const out = vi.fn();
    m.http.whenSignedOut(out);
    await expect(m.calls.workspaces()).rejects.toMatchObject({ status: 401 });
    expect(out).toHaveBeenCalledOnce();
  });

  it('does not sign out when the refresh merely fails', async () => {
    answer = (request) => (path(request) === '/api/auth/refresh' ? json(503, { detail: 'busy' }) : json(401, {}));
    const out = vi.fn();
    m.http.whenSignedOut(out);
    await expect(m.calls.workspaces()).rejects.toMatchObject({ status: 503 });
    expect(out).not.toHaveBeenCalled();
  });

  it('of a first visit sends no request', async () => {
    vi.stubGlobal('document', { cookie: 'theme=x' });
    storage.clear();
    answer = () => json(401, { detail: 'Not authenticated' });
    await expect(m.calls.me()).rejects.toMatchObject({ status: 401 });
    expect(requests).toEqual([]);
    vi.stubGlobal('document', { cookie: 'theme=x; __Host-portcullis-here=1' });
    await expect(m.calls.me()).rejects.toMatchObject({ status: 401 });
    expect(requests.map(path)).toEqual(['/api/auth/me', '/api/auth/refresh']);
    vi.stubGlobal('document', undefined);
  });

  it('of a wrong password causes no refresh', async () => {
    answer = () => json(401, { detail: 'Invalid credentials' });
    await expect(m.calls.login('a@b', 'x')).rejects.toMatchObject({ status: 401 });
    expect(requests.length).toBe(1);
  });

  it('uses the refresh of another tab', async () => {
    let first = true;
    answer = (request) => {
      if (path(request) === '/api/auth/refresh') return json(500, {});
      if (!first) return json(200, []);
      first = false;
      // While this answer was on its way, another tab has refreshed.
      storage.set('portcullis.refreshed', String(Date.now() + 1));
      return json(401, {});
    };
    await m.calls.workspaces();
    expect(requests.map(path)).toEqual(['/api/workspaces', '/api/workspaces']);
  });
});

describe('paging', () => {
  it('reads the cursor from the Link header', () => {
    expect(m.calls.nextCursor('</api/sessions?limit=2&cursor=a%2Bb>; rel="next"')).toBe('a+b');
    expect(m.calls.nextCursor('</a?cursor=x>; rel="prev", <https://h/b?cursor=y>; rel=next')).toBe('y');
    expect(m.calls.nextCursor('</a?cursor=x>; rel="prev"')).toBeNull();
    expect(m.calls.nextCursor(null)).toBeNull();
  });
});
