/** API objects for the component tests. */
import type { AppRequest, AuditEntry, Host, Me, Session, SignInRecord, User, Workspace } from '../../src/api/types';

const id = (n: number) => `7d5f2c1e-4a0b-4c6d-9e2f-${String(n).padStart(12, '0')}`;
const TIME = '2026-03-05T14:30:00.000Z';

const user = (n: number, role: Me['role'], more: Partial<User> = {}): User => ({
  id: id(n),
  email: `${role}@example.test`,
  name: `${role} person`,
  role,
  organization_id: id(90),
  mfa_enrolled: true,
  disabled: false,
  created_at: TIME,
  last_login_at: TIME,
  ...more,
});
const me = (n: number, role: Me['role']): Me => ({ ...user(n, role), mfa_verified: true, mfa_method: 'totp', mfa_verified_at: TIME });

export const member = me(1, 'member');
export const admin = me(2, 'admin');
export const security = me(3, 'security');

export const users: User[] = [
  user(2, 'admin'),
  user(1, 'member', { mfa_enrolled: false, last_login_at: null }),
  user(4, 'security', { disabled: true }),
];

export const workspace = (more: Partial<Workspace> = {}): Workspace => ({
  id: 'ws-desk',
  name: 'Linux Desktop',
  description: 'A desktop',
  type: 'linux',
  target: null,
  status: 'available',
  icon: 'desktop',
  tags: ['dev'],
  requires_mfa: false,
  single_seat: false,
  network: false,
  allowed_roles: ['member', 'admin', 'security'],
  maintenance: false,
  session_limits: { duration_seconds: null, extension_seconds: null, idle_timeout_seconds: null },
  policy: { clipboard: 'both', files: false, read_only: false },
  server: null,
  web: null,
  active_session_id: null,
  created_at: TIME,
  updated_at: TIME,
  ...more,
});

export const session = (more: Partial<Session> = {}): Session => ({
  id: id(700),
  user_id: member.id,
  user_email: member.email,
  workspace_id: 'ws-desk',
  workspace_name: 'Linux Desktop',
  workspace_type: 'linux',
  status: 'active',
  started_at: TIME,
  ended_at: null,
  end_reason: null,
  expires_at: '2026-03-06T02:30:00.000Z',
  extendable_until: null,
  idle_timeout_seconds: null,
  idle_ends_at: null,
  ip_address: '10.77.0.14',
  tunnel_status: 'encrypted',
  mfa_verified: true,
  tunnel: { protocol: 'wireguard', peer_public_key: 'key', address: '10.77.0.14', last_handshake_at: TIME, rx_bytes: 1000, tx_bytes: 2000, retransmits: 0 },
  latency: { browser_ms: 9, host_ms: 3, desktop_ms: null, slow_leg: null },
  viewers: 2,
  policy: { clipboard: 'both', files: false, read_only: false },
  app_origin: null,
  ...more,
});
export const ended = (more: Partial<Session> = {}): Session =>
  session({ id: id(701), status: 'terminated', ended_at: '2026-03-05T15:30:00.000Z', end_reason: 'admin_stopped', tunnel_status: 'down', ...more });

export const host = (more: Partial<Host> = {}): Host => ({
  id: id(50),
  name: 'rack-2',
  kind: 'agent',
  public_key: 'key',
  status: 'connected',
  address: '10.77.1.2',
  endpoint: '203.0.113.9:51820',
  version: '0.1.0',
  desktops: 3,
  drained: false,
  slots: null,
  last_failure: null,
  offers: { desktops: ['linux'], service_types: ['html5'], services: [{ name: 'wiki', reachable: false }], limits: { memory: false, cpu: true, processes: true, home: true, network: true, seccomp: true } },
  last_handshake_at: TIME,
  enrolled_at: TIME,
  ...more,
});

export const entry = (seq: number, more: Partial<AuditEntry> = {}): AuditEntry => ({
  seq,
  time: TIME,
  organization_id: id(90),
  actor: { id: member.id, email: member.email, role: 'member' },
  action: 'launch_workspace',
  target: { type: 'workspace', id: 'ws-desk', name: 'Linux Desktop' },
  outcome: 'success',
  reason: null,
  source_ip: '203.0.113.24',
  user_agent: null,
  session_id: id(700),
  workspace_id: 'ws-desk',
  request_id: 'req-1',
  details: {},
  prev_hash: 'ab'.repeat(32),
  hash: 'cd'.repeat(32),
  ...more,
});

export const request = (seq: number, more: Partial<AppRequest> = {}): AppRequest => ({
  seq,
  time: TIME,
  method: 'GET',
  path: '/wiki/start',
  status: 200,
  bytes_in: 0,
  bytes_out: 18_240,
  duration_ms: 42,
  ended: 'done',
  ...more,
});

export const login = (n: number, more: Partial<SignInRecord> = {}): SignInRecord => ({
  id: id(800 + n),
  current: false,
  active: true,
  mfa_verified: true,
  mfa_method: 'totp',
  mfa_verified_at: TIME,
  created_at: TIME,
  ends_at: '2026-03-12T14:30:00.000Z',
  source_ip: '203.0.113.24',
  user_agent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/146.0 Safari/537.36',
  ...more,
});
