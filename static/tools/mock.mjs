// A pretend gateway for looking at the pages: serves dist/ under the real Content-Security-Policy and answers the API
// from made-up data. `scene` says how: full, empty, failing (500), offline-hosts; `me` says who is signed in.
import { createServer } from 'node:http';
import { readFileSync, existsSync } from 'node:fs';
import { connect } from 'node:net';
import { extname } from 'node:path';
import { WebSocketServer } from 'ws';
import { refuseRdp, relayRdp } from './rdp-relay.mjs';

const csp = (scripts) =>
  `default-src 'none'; script-src ${scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'`;
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.wasm': 'application/wasm' };
const dist = new URL('../dist/', import.meta.url);
const ago = (s) => new Date(Date.now() - s * 1000).toISOString();
const hex = (seed) => Array.from({ length: 64 }, (_, i) => ((seed * 31 + i * 7 + (i * seed) % 13) % 16).toString(16)).join('');
const uuid = (n) => `7d5f2c1e-4a0b-4c6d-9e2f-${String(n).padStart(12, '0')}`;

export const people = {
  member: { id: uuid(1), email: 'maya.lind@example.com', name: 'Maya Lind', role: 'member', organization_id: uuid(90), mfa_enrolled: true, disabled: false, created_at: ago(86400 * 90), last_login_at: ago(320) },
  admin: { id: uuid(2), email: 'omar.haddad@example.com', name: 'Omar Haddad', role: 'admin', organization_id: uuid(90), mfa_enrolled: true, disabled: false, created_at: ago(86400 * 200), last_login_at: ago(60) },
  security: { id: uuid(3), email: 'ines.costa@example.com', name: 'Inês Costa', role: 'security', organization_id: uuid(90), mfa_enrolled: true, disabled: false, created_at: ago(86400 * 60), last_login_at: ago(86400) },
};
const others = [
  { id: uuid(4), email: 'jonas.weber@example.com', name: 'Jonas Weber', role: 'member', organization_id: uuid(90), mfa_enrolled: false, disabled: false, created_at: ago(86400 * 3), last_login_at: null },
  { id: uuid(5), email: 'li.chen@example.com', name: 'Li Chen', role: 'member', organization_id: uuid(90), mfa_enrolled: true, disabled: true, created_at: ago(86400 * 300), last_login_at: ago(86400 * 40) },
];
const workspace = (id, name, more = {}) => ({ id, name, description: '', type: 'linux', status: 'available', icon: 'desktop', tags: [], requires_mfa: false, session_limits: { duration_seconds: null, extension_seconds: null, idle_timeout_seconds: null }, single_seat: false, network: false, allowed_roles: ['member', 'admin', 'security'], maintenance: false, active_session_id: null, created_at: ago(9e6), updated_at: ago(9e5), ...more });
export const SESSION = uuid(700);
const session = (n, more = {}) => ({ id: uuid(n), user_id: uuid(1), user_email: people.member.email, workspace_id: 'ws-linux-desktop', workspace_name: 'Linux Desktop', workspace_type: 'linux', status: 'active', started_at: ago(754), ended_at: null, expires_at: ago(-7.5 * 3600), extendable_until: ago(-11.5 * 3600), idle_timeout_seconds: null, idle_ends_at: null, ip_address: '10.77.0.14', tunnel_status: 'encrypted', mfa_verified: true, end_reason: null, tunnel: { protocol: 'wireguard', peer_public_key: 'x', address: '10.77.0.14', last_handshake_at: ago(42), rx_bytes: 18_400_000, tx_bytes: 912_000 }, latency: { browser_ms: 9, host_ms: 3 }, viewers: 1, ...more });
const qr = () => {
  let cells = '';
  for (let y = 0; y < 29; y += 1) for (let x = 0; x < 29; x += 1) {
    const corner = (a, b) => x >= a && x < a + 7 && y >= b && y < b + 7 ? ((x - a) % 6 === 0 || (y - b) % 6 === 0 || (x - a > 1 && x - a < 5 && y - b > 1 && y - b < 5)) : null;
    const dark = corner(0, 0) ?? corner(22, 0) ?? corner(0, 22) ?? (x * 7 + y * 13 + x * y) % 5 < 2;
    if (dark) cells += `M${x} ${y}h1v1h-1z`;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 29 29" shape-rendering="crispEdges"><path d="${cells}"/></svg>`;
};
const entry = (seq, seconds, who, action, outcome = 'success', more = {}) => ({ seq, time: ago(seconds), actor: who ? { id: who.id, email: who.email, role: who.role } : { id: null, email: null, role: 'system' }, action, target: null, outcome, reason: null, source_ip: who ? '203.0.113.24' : null, user_agent: who ? 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/146.0' : null, session_id: null, workspace_id: null, request_id: `req-${hex(seq).slice(0, 16)}`, details: {}, prev_hash: hex(seq - 1), hash: hex(seq), ...more });
const desk = { target: { type: 'workspace', id: 'ws-linux-desktop', name: 'Linux Desktop' }, workspace_id: 'ws-linux-desktop', session_id: SESSION };
const auditLog = () => [
  entry(1042, 30, people.admin, 'verify_audit'),
  entry(1041, 320, people.member, 'open_stream', 'success', { ...desk, target: { type: 'session', id: SESSION, name: 'Linux Desktop' } }),
  entry(1040, 322, people.member, 'issue_ticket', 'success', { ...desk, target: { type: 'session', id: SESSION, name: 'Linux Desktop' } }),
  entry(1039, 326, people.member, 'launch_workspace', 'success', { ...desk, details: { launch_ms: 412, tunnel_ip: '10.77.0.14', host: 'rack-2' } }),
  entry(1038, 341, people.member, 'mfa_verify'),
  entry(1037, 360, people.member, 'login'),
  entry(1036, 640, { ...others[0] }, 'access_denied', 'denied', { target: { type: 'session', id: SESSION, name: null }, reason: 'Session not found', source_ip: '198.51.100.7' }),
  entry(1035, 700, { ...others[0] }, 'mfa_failed', 'denied', { reason: 'Code was used before', source_ip: '198.51.100.7' }),
  entry(1034, 4000, people.admin, 'terminate_session', 'success', { target: { type: 'session', id: uuid(699), name: 'Windows Finance' }, workspace_id: 'ws-finance', session_id: uuid(699) }),
  entry(1033, 9000, people.admin, 'update_workspace', 'success', { target: { type: 'workspace', id: 'ws-finance', name: 'Windows Finance' }, workspace_id: 'ws-finance', details: { requires_mfa: true } }),
  entry(1032, 90000, null, 'host_connected', 'success', { target: { type: 'host', id: uuid(50), name: 'rack-2' } }),
  entry(1031, 90400, null, 'host_lost', 'error', { target: { type: 'host', id: uuid(50), name: 'rack-2' }, reason: 'No handshake for 180 s' }),
  entry(1030, 99000, null, 'gateway_start'),
];

const appRequests = () => [
  [100, 'GET', '/home', 200, 0, 18_240, 42, 'done'], [99, 'GET', '/socket', 101, 12_400, 1_840_000, 184_000, 'done'], [98, 'POST', '/files/upload', 403, 0, 0, 1, 'refused'],
  [97, 'GET', '/attachments/2026/quarterly-report-final-with-all-the-appendices-and-a-long-name.pdf', 200, 0, 48_400_000, 9_300, 'client_gone'], [96, 'POST', '/search', 504, 312, 0, 30_000, 'failed'],
  [95, 'GET', '/home/theme.css', 304, 0, 0, 8, 'done'], [94, 'GET', '/events', 200, 0, 1_200, 3_600_000, 'cut'],
].map(([seq, method, path, status, bytes_in, bytes_out, duration_ms, ended]) => ({ seq, time: ago((101 - seq) * 7), method, path, status, bytes_in, bytes_out, duration_ms, ended }));

/** Starts it. Answers `{url, state, end}`; `state` is changed by the caller between pictures. */
export async function mock({ vncPort = null, rdpPort = null } = {}) {
  const state = { scene: 'full', me: null, delay: 0, hosts: true, ended: null, enrol: false, running: true, streamClose: null, sockets: new Set(), log: [] };
  const answers = {
    'GET /api/auth/me': () => (state.me ? [200, { ...people[state.me], mfa_verified: !state.bare, ...(state.bare ? { mfa_enrolled: false } : {}), mfa_method: 'totp', mfa_verified_at: ago(300) }] : [401, { detail: 'Not authenticated' }]),
    'POST /api/auth/login': ({ password }) => (password === 'wrong' ? [401, { detail: 'Invalid credentials' }] : password === 'slow' ? [429, { detail: 'Too many attempts' }] : [200, { mfa_required: true, mfa_token: 't', methods: state.enrol ? [] : ['totp'], enrollment_required: state.enrol, expires_in: 300 }]),
    'POST /api/auth/mfa/verify': ({ code }) => (code === '123456' ? ((state.me = 'member'), [200, { mfa_required: false, expires_in: 900, user: people.member }]) : [401, { detail: 'Invalid code' }]),
    'POST /api/auth/mfa/totp/enroll': () => [200, { secret: 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP', otpauth_url: 'otpauth://totp/x', qr_svg: qr(), issuer: 'Portcullis', account: 'x', digits: 6, period: 30 }],
    'POST /api/auth/mfa/totp/confirm': ({ code }) => (code === '123456' ? ((state.me = 'member'), [200, { expires_in: 900 }]) : [401, { detail: 'Invalid code' }]),
    'POST /api/auth/refresh': () => [401, { detail: 'Invalid or expired token' }],
    'GET /api/auth/logins': () => [200, [
      { id: uuid(800), current: true, active: true, mfa_verified: true, mfa_method: 'totp', mfa_verified_at: ago(300), created_at: ago(320), ends_at: ago(-86400), source_ip: '203.0.113.24', user_agent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/146.0 Safari/537.36' },
      { id: uuid(801), current: false, active: true, mfa_verified: true, mfa_method: 'totp', mfa_verified_at: ago(9000), created_at: ago(9000), ends_at: ago(-86400), source_ip: '198.51.100.7', user_agent: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile Safari/604.1' },
      { id: uuid(802), current: false, active: false, mfa_verified: false, mfa_method: null, mfa_verified_at: null, created_at: ago(99000), ends_at: ago(90000), source_ip: null, user_agent: 'curl/8.5.0' },
    ]],
    'POST /api/auth/logout': () => ((state.me = null), [200, { message: 'Signed out' }]),
    'GET /api/workspaces': () => [200, [
      workspace('ws-linux-desktop', 'Linux Desktop', { description: 'A full desktop with terminal, files and editor. Your home folder is kept.', tags: ['general'], active_session_id: state.running ? SESSION : null, status: state.running ? 'in_use' : state.hosts ? 'available' : 'offline' }),
      workspace('ws-developer', 'Developer Workstation', { description: 'Compilers, debuggers and the monorepo, on a big machine.', icon: 'code', tags: ['engineering', 'large'], requires_mfa: true, status: state.hosts ? 'available' : 'offline' }),
      workspace('ws-terminal', 'Jump Host', { description: 'A terminal inside the production network.', icon: 'terminal', requires_mfa: true, single_seat: true, status: 'in_use' }),
      workspace('ws-finance', 'Windows Finance', { description: 'Ledger and reporting.', icon: 'windows', type: 'rdp', status: 'maintenance', maintenance: true, allowed_roles: ['member', 'admin'], single_seat: true, target: { host_id: uuid(50), service: 'finance' }, policy: { clipboard: 'in', files: false, read_only: false }, server: { credential: 'user', credential_saved: true, exclusive: false, keyboard: '0x00000407', username: null, domain: null, trust: { rule: 'first_use' }, certificate: { pinned: hex(3), pinned_at: ago(8e6), offered: hex(11), offered_at: ago(3000), offered_subject: 'CN=finance-02.corp.example' } } }),
      workspace('ws-browser', 'Secure Browser', { description: 'For sites you would rather not open on your own machine.', icon: 'browser', network: true, tags: ['web'], status: state.hosts ? 'available' : 'offline' }),
      workspace('ws-wiki', 'Team Wiki', { description: 'Runbooks and decisions.', icon: 'browser', type: 'html5', tags: ['docs'], target: { host_id: uuid(50), service: 'wiki' }, server: { credential: 'user', credential_saved: true, exclusive: false, keyboard: null, sign_in: 'header', username: '', domain: '', trust: { rule: 'first_use' }, certificate: { pinned: hex(3), pinned_at: ago(8e6), offered: null, offered_at: null, offered_subject: null } }, web: { scheme: 'https', host: 'wiki.corp.example', start: '/home', identity: { headers: true, assertion_audience: 'wiki' }, sign_in: { by: 'header', header: 'x-wiki-token' }, requests: { methods: ['GET', 'POST'], paths: ['/home', '/search'], upload: false, download: true, max_request: 26214400 } } }),
    ]],
    'GET /api/sessions/active': () => [200, state.running ? [session(700)] : []],
    'GET /api/sessions': () => [200, [session(700), session(698, { status: 'terminated', workspace_name: 'Windows Finance', end_reason: 'admin_stopped', started_at: ago(9000), ended_at: ago(4000) }), session(697, { status: 'disconnected', end_reason: 'user_disconnected', started_at: ago(90000), ended_at: ago(81000) }), session(696, { status: 'terminated', workspace_name: 'Developer Workstation', end_reason: 'expired', started_at: ago(290000), ended_at: ago(260000) })], { Link: '</api/sessions?cursor=abc>; rel="next"' }],
    'GET /api/admin/sessions': () => [200, [session(700), session(701, { user_email: 'li.chen@example.com', workspace_name: 'Developer Workstation', tunnel_status: 'stale', started_at: ago(13000), ip_address: '10.77.0.15', viewers: 2 }), session(702, { user_email: 'jonas.weber@example.com', tunnel_status: 'connecting', started_at: ago(2), ip_address: '10.77.0.16', viewers: 0, mfa_verified: false }), session(703, { user_email: 'li.chen@example.com', workspace_id: 'ws-wiki', workspace_name: 'Team Wiki', workspace_type: 'html5', ip_address: '10.77.0.17' })]],
    [`GET /api/sessions/${uuid(703)}/requests`]: () => [200, { requests: appRequests(), next_cursor: '88' }],
    'GET /api/users': () => [200, [...Object.values(people), ...others]],
    'GET /api/hosts': () => [200, [{ id: uuid(50), name: 'rack-2', kind: 'agent', public_key: 'k', status: 'connected', address: '10.77.255.2', endpoint: '192.0.2.14:51934', version: '0.1.0', desktops: 3, offers: { desktops: ['linux', 'rdp'], service_types: ['vnc', 'rdp', 'html5'], services: [{ name: 'finance', reachable: true }, { name: 'erp', reachable: false }, { name: 'wiki', reachable: true }] }, last_handshake_at: ago(48), enrolled_at: ago(9e6) }, { id: uuid(51), name: 'rack-3', kind: 'peer', public_key: 'k', status: 'offline', address: '10.77.255.3', endpoint: null, version: '0.1.0', desktops: 0, last_handshake_at: ago(86400 * 2), enrolled_at: ago(6e6) }]],
    'POST /api/hosts/peers': () => [201, { id: uuid(51), name: 'rack-3', kind: 'peer', public_key: 'k', status: 'offline', address: '10.77.255.3', endpoint: null, version: null, desktops: 0, last_handshake_at: null, enrolled_at: ago(1) }],
    [`POST /api/hosts/${uuid(51)}/config`]: () => [200, { config: '[Interface]\n# PrivateKey = (the private key of this host)\nAddress = 10.77.255.3/32\n\n[Peer]\nPublicKey = 9kFZ0mTt3wYQ2yVb7sX1pC8eJ4uLrH6dGaN5oKiEzRk=\nPresharedKey = Qm3vX8cT1bY6nR4wZ0aH7dJ9kL2pS5fG8eU3iO6tVxA=\nAllowedIPs = 10.77.0.1/32\nEndpoint = gateway.example.com:51820\nPersistentKeepalive = 25\n' }],
    'POST /api/hosts/join-tokens': () => [201, { token: 'pj_4Zr1', expires_at: new Date(Date.now() + 3600e3).toISOString(), command: 'portcullis agent --gateway https://gateway.example.com --join pj_4Zr1hT0m2Vb7Qk9sWc3XyL8dNf5Ga6Je' }],
    'GET /api/audit': () => [200, { entries: auditLog(), next_cursor: 'c' }],
    'GET /api/audit/verify': () => [200, { ok: true, entries: 1042, head: { seq: 1042, hash: hex(1042), signature: 'x' }, first_error: null }],
  };
  const json = (response, status, body, headers = {}) => {
    response.writeHead(status, { 'Content-Type': 'application/json', 'X-Request-Id': 'req-5f0c2b7a91d34e68', ...headers });
    response.end(JSON.stringify(body));
  };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    if (!pathname.startsWith('/api/')) {
      const file = pathname.startsWith('/assets/') ? pathname : pathname.startsWith('/viewer/') ? '/viewer.html' : '/index.html';
      const path = new URL(`.${file}`, dist);
      if (!existsSync(path)) return response.writeHead(404).end();
      response.writeHead(200, { 'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream', 'Content-Security-Policy': csp(pathname.startsWith('/viewer/') ? "'self' 'wasm-unsafe-eval'" : "'self'"), 'Set-Cookie': state.me ? '__Host-portcullis-here=1; Path=/; Secure; SameSite=Strict' : '__Host-portcullis-here=; Path=/; Secure; Max-Age=0' });
      return response.end(readFileSync(path));
    }
    if (pathname === '/api/events') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.write(': ping\n\n');
      return;
    }
    let body = '';
    for await (const piece of request) body += piece;
    state.log.push(`${request.method} ${pathname}`);
    if (state.delay && pathname !== '/api/auth/me') await new Promise((done) => setTimeout(done, state.delay));
    const key = `${request.method} ${pathname}`;
    if (pathname === '/api/health') return json(response, state.scene === 'tampered' ? 503 : 200, { status: 'ok', dependencies: { audit: { status: state.scene === 'tampered' ? 'tampered' : 'ok' } } });
    if (state.scene === 'tampered' && request.method !== 'GET') {
      response.setHeader('X-Portcullis-Audit', 'tampered');
      return json(response, 503, { detail: 'The audit log was altered from outside, so nothing is changed any more. Tell your administrator.' });
    }
    if (state.scene === 'failing' && pathname !== '/api/auth/me') return json(response, 500, { detail: 'The database did not answer' });
    if (state.scene === 'empty' && request.method === 'GET' && /^\/api\/(workspaces|sessions|sessions\/active|admin\/sessions|users|hosts)$/.test(pathname)) return json(response, 200, []);
    if (state.scene === 'empty' && pathname === '/api/audit') return json(response, 200, { entries: [], next_cursor: null });
    if (state.scene === 'empty' && pathname.endsWith('/requests')) return json(response, 200, { requests: [], next_cursor: null });
    if (answers[key]) return json(response, ...answers[key](body ? JSON.parse(body) : {}));
    const one = /^\/api\/sessions\/([^/]+)(\/\w+)?$/.exec(pathname);
    if (one) {
      if (!one[1].startsWith('7d5f')) return json(response, 404, { detail: 'Session not found' });
      if (!state.me) return json(response, 401, { detail: 'Not authenticated' });
      if (one[2] === '/ticket') return json(response, 200, { ticket: 'once', expires_at: ago(-30), url: `/api/sessions/${one[1]}/stream` });
      if (one[2] === '/disconnect') {
        state.ended = 'user_disconnected';
        for (const socket of state.sockets) socket.close(4000, 'user_disconnected');
        return json(response, 200, { message: 'Session disconnected' });
      }
      return json(response, 200, session(700, { ...state.session, ...(state.ended ? { status: 'terminated', end_reason: state.ended, ended_at: ago(1) } : {}) }));
    }
    if (/\/launch$/.test(pathname)) return json(response, 200, { session_id: SESSION, workspace: workspace('ws-developer', 'x'), stream_url: `/viewer/${SESSION}`, tunnel_status: 'encrypted', security: {} });
    if (/\/stop$/.test(pathname)) return (state.running = false), json(response, 200, { message: 'Workspace stopped', session_id: SESSION, session_ids: [SESSION] });
    return json(response, request.method === 'POST' ? 201 : 200, { message: 'Done' });
  });
  const sockets = new WebSocketServer({ noServer: true });
  server.on('upgrade', (request, socket, head) => {
    if ((!vncPort && !rdpPort) || state.refuseStream) return socket.destroy();
    sockets.handleUpgrade(request, socket, head, (browser) => {
      if (state.streamClose && state.session?.workspace_type === 'rdp') return refuseRdp(browser, ...state.streamClose);
      if (state.streamClose) return browser.close(...state.streamClose);
      state.sockets.add(browser);
      browser.on('close', () => state.sockets.delete(browser));
      if (state.session?.workspace_type === 'rdp') return relayRdp(browser, rdpPort);
      const desktop = connect(vncPort, '127.0.0.1');
      desktop.on('data', (data) => browser.readyState === 1 && browser.send(data));
      browser.on('message', (data) => desktop.write(data));
      browser.on('close', () => desktop.destroy());
      desktop.on('close', () => browser.close(4002));
      desktop.on('error', () => browser.close(4002));
    });
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://localhost:${server.address().port}`, state, end: () => (server.closeAllConnections(), server.close()) };
}
