/** API calls, typed by the paths generated from openapi.json. */
import createClient from 'openapi-fetch';
import { guardedFetch, markSignedIn, toError } from './http';
import type { paths } from './schema';
import type * as t from './types';

const client = createClient<paths>({ baseUrl: globalThis.location?.origin ?? 'http://localhost', fetch: guardedFetch });

type Answer<T> = Promise<{ data?: T; error?: unknown; response: Response }>;

async function value<T>(answer: Answer<T>): Promise<T> {
  const { data, error, response } = await answer;
  if (!response.ok) throw await toError(response, error ?? null);
  return data as T;
}

const at = (id: string) => ({ params: { path: { id } } });

// Signing in and out
export const login = async (email: string, password: string): Promise<t.LoginAnswer> => {
  const answer = await value<t.LoginAnswer>(client.POST('/api/auth/login', { body: { email, password } }));
  if (!answer.mfa_required) markSignedIn(true);
  return answer;
};
/** What the user should know after it, if anything. */
export const verifyCode = async (mfa_token: string, code: string): Promise<string | null> => {
  const answer = await value<t.SignedIn>(client.POST('/api/auth/mfa/verify', { body: { mfa_token, method: 'totp', code } }));
  markSignedIn(true);
  return answer.notice ?? null;
};
export const enrol = (mfa_token?: string): Promise<t.Enrolment> =>
  value(client.POST('/api/auth/mfa/totp/enroll', { body: mfa_token ? { mfa_token } : {} }));
export const confirmEnrolment = async (code: string, mfa_token?: string): Promise<void> => {
  await value<unknown>(client.POST('/api/auth/mfa/totp/confirm', { body: mfa_token ? { mfa_token, code } : { code } }));
  markSignedIn(true);
};
export const logout = async (everywhere: boolean): Promise<void> => {
  await value<unknown>(client.POST('/api/auth/logout', { body: { everywhere } }));
  markSignedIn(false);
};
export const logins = (): Promise<t.SignInRecord[]> => value(client.GET('/api/auth/logins'));
export const endLogin = async (id: string): Promise<void> => {
  await value<unknown>(client.POST('/api/auth/logins/{id}/sign-out', at(id)));
};
/** Whether the audit log was altered from outside. A gateway that is down answers 503 with the same body. */
export const auditTampered = async (): Promise<boolean> => {
  const { data, error } = await client.GET('/api/health');
  const health = data ?? error;
  return health !== undefined && 'dependencies' in health && health.dependencies.audit.status === 'tampered';
};
export const me = (): Promise<t.Me> => value(client.GET('/api/auth/me'));

// Workspaces
export const workspaces = (): Promise<t.Workspace[]> => value(client.GET('/api/workspaces'));
export const launch = (id: string, replace = false): Promise<t.Launched> =>
  value(client.POST('/api/workspaces/{id}/launch', { ...at(id), body: { replace } }));
export const stopWorkspace = (id: string): Promise<t.Stopped> => value(client.POST('/api/workspaces/{id}/stop', at(id)));
export const createWorkspace = (body: t.WorkspaceInput): Promise<t.Workspace> =>
  value(client.POST('/api/workspaces', { body }));
export const updateWorkspace = (id: string, body: t.WorkspaceChange): Promise<t.Workspace> =>
  value(client.PATCH('/api/workspaces/{id}', { ...at(id), body }));
export const deleteWorkspace = async (id: string): Promise<void> => {
  await value<unknown>(client.DELETE('/api/workspaces/{id}', at(id)));
};

// Sessions
export const session = (id: string): Promise<t.Session> => value(client.GET('/api/sessions/{id}', at(id)));
export const activeSessions = (): Promise<t.Session[]> => value(client.GET('/api/sessions/active'));
export const disconnect = async (id: string): Promise<void> => {
  await value<unknown>(client.POST('/api/sessions/{id}/disconnect', at(id)));
};
export const extendSession = async (id: string, duration: string): Promise<t.Session> =>
  (await value(client.POST('/api/sessions/{id}/extend', { ...at(id), body: { duration } }))).session;
export const ticket = (id: string): Promise<t.Ticket> => value(client.POST('/api/sessions/{id}/ticket', at(id)));
export const everyonesSessions = (): Promise<t.Session[]> => value(client.GET('/api/admin/sessions'));
export const terminate = async (id: string): Promise<void> => {
  await value<unknown>(client.POST('/api/admin/sessions/{id}/terminate', at(id)));
};

/** One page of the caller's sessions. The cursor of the next one is in the `Link` header. */
export async function sessions(cursor?: string, limit = 25): Promise<{ items: t.Session[]; next: string | null }> {
  const { data, error, response } = await client.GET('/api/sessions', { params: { query: { limit, cursor } } });
  if (!response.ok) throw await toError(response, error ?? null);
  return { items: data ?? [], next: nextCursor(response.headers.get('Link')) };
}

/** Reads the cursor out of `Link: </api/sessions?cursor=X>; rel="next"` (RFC 8288). */
export function nextCursor(link: string | null): string | null {
  for (const part of link?.split(/,\s*(?=<)/) ?? []) {
    const found = /^\s*<([^>]*)>.*;\s*rel="?next"?/i.exec(part);
    if (found?.[1]) return new URL(found[1], 'http://localhost').searchParams.get('cursor');
  }
  return null;
}

// Credentials of desktops (write-only)
export const saveCredential = async (workspace: string, body: t.CredentialInput): Promise<void> => {
  await value<unknown>(client.PUT('/api/workspaces/{id}/credential', { ...at(workspace), body }));
};
export const forgetCredential = async (workspace: string): Promise<void> => {
  await value<unknown>(client.DELETE('/api/workspaces/{id}/credential', at(workspace)));
};
export const enterCredential = async (session: string, body: t.CredentialInput): Promise<void> => {
  await value<unknown>(client.POST('/api/sessions/{id}/credential', { ...at(session), body }));
};
export const acceptCertificate = async (workspace: string, fingerprint: string): Promise<void> => {
  await value<unknown>(client.POST('/api/workspaces/{id}/certificate/accept', { ...at(workspace), body: { fingerprint } }));
};

// People
export const users = (): Promise<t.User[]> => value(client.GET('/api/users'));
export const createUser = (body: t.UserInput): Promise<t.User> => value(client.POST('/api/users', { body }));
export const updateUser = (id: string, body: t.UserChange): Promise<t.User> =>
  value(client.PATCH('/api/users/{id}', { ...at(id), body }));
export const resetFactor = async (id: string): Promise<void> => {
  await value<unknown>(client.POST('/api/users/{id}/reset-mfa', at(id)));
};
export const signOutUser = async (id: string): Promise<void> => {
  await value<unknown>(client.POST('/api/users/{id}/sign-out', at(id)));
};

// Hosts
export const hosts = (): Promise<t.Host[]> => value(client.GET('/api/hosts'));
export const joinToken = (name?: string): Promise<t.JoinToken> =>
  value(client.POST('/api/hosts/join-tokens', { body: name ? { name } : {} }));
export const addPeer = (body: t.PeerInput): Promise<t.Host> => value(client.POST('/api/hosts/peers', { body }));
/** The peer's `wg-quick` file. It contains a preshared key, and reading it is audited. */
export const hostConfig = async (id: string): Promise<string> => (await value(client.POST('/api/hosts/{id}/config', at(id)))).config;
export const updateHost = (id: string, body: t.HostChange): Promise<t.Host> =>
  value(client.PATCH('/api/hosts/{id}', { ...at(id), body }));
export const removeHost = async (id: string): Promise<void> => {
  await value<unknown>(client.DELETE('/api/hosts/{id}', at(id)));
};

/** Which part of a log; `signal` gives the search up, which ends it on the server too. */
export interface LogPart {
  cursor?: string;
  limit?: number;
  /** Only rows after this one. */
  after?: number;
  signal?: AbortSignal;
}

// Requests to web applications
export const requests = (session: string, filter: t.RequestFilter, part: LogPart = {}): Promise<t.RequestPage> => {
  const { signal, ...page } = part;
  // Without `format` it is JSON.
  const found = client.GET('/api/sessions/{id}/requests', { params: { path: { id: session }, query: { ...filter, limit: 100, ...page } }, signal });
  return value(found) as Promise<t.RequestPage>;
};
/** URL of the download with this filter. */
export function requestsExport(session: string, filter: t.RequestFilter): string {
  return `/api/sessions/${encodeURIComponent(session)}/requests?${new URLSearchParams({ format: 'csv', ...filter } as Record<string, string>)}`;
}

// Audit
export const audit = (filter: t.AuditFilter, part: LogPart = {}): Promise<t.AuditPage> => {
  const { signal, ...page } = part;
  return value(client.GET('/api/audit', { params: { query: { ...filter, limit: 50, ...page } }, signal }));
};
export const verifyAudit = (): Promise<t.AuditVerdict> => value(client.GET('/api/audit/verify'));
/** URL of the download with this filter. */
export function auditExport(filter: t.AuditFilter, format: 'csv' | 'jsonl'): string {
  return `/api/audit/export?${new URLSearchParams({ format, ...filter } as Record<string, string>)}`;
}
