/**
 * The one place where names from the generated OpenAPI types are mentioned: everything else imports these.
 * When the server's schema renames something, this file (and `calls.ts`) is what changes.
 */
import type { components } from './schema';

type Schemas = components['schemas'];

export type User = Schemas['UserDetails'];
export type Me = Schemas['Me'];
export type Role = 'member' | 'admin' | 'security';
export type LoginAnswer = Schemas['LoginAnswer'];
export type Enrolment = Schemas['TotpSecret'];

export type SignInRecord = Schemas['SignInRecord'];

export interface StreamPolicy {
  clipboard: 'none' | 'in' | 'out' | 'both';
  files: boolean;
  read_only: boolean;
}
export interface Server {
  credential: 'workspace' | 'user' | 'ask';
  credential_saved: boolean;
  exclusive: boolean;
  keyboard: string | null;
  username?: string | null;
  domain?: string | null;
  trust?: { rule: 'first_use' | 'pinned' | 'authority'; fingerprint?: string | null; roots?: string | null; name?: string | null } | null;
  certificate?: { pinned: string | null; pinned_at: string | null; offered: string | null; offered_at: string | null; offered_subject: string | null } | null;
}
export interface CredentialInput {
  username?: string;
  domain?: string;
  password: string;
}
export type Workspace = Schemas['Workspace'] & { policy?: StreamPolicy; server?: Server | null };
export type WorkspaceInput = Schemas['CreateWorkspace'];
export type WorkspaceChange = Schemas['UpdateWorkspace'];
export type Launched = Schemas['Launch'];
export type Stopped = Schemas['Stopped'];

export type Session = Schemas['Session'] & { policy?: StreamPolicy };
export type Ticket = Schemas['Ticket'];

export type UserInput = Schemas['CreateUser'];
export type UserChange = Schemas['UpdateUser'];

export type Host = Schemas['Host'];
export type JoinToken = Schemas['JoinToken'];
export type PeerInput = Schemas['AddPeer'];

export type AuditEntry = Schemas['AuditEntry'];
export type AuditPage = Schemas['AuditPage'];
export type AuditVerdict = Schemas['AuditVerification'];

export interface AuditFilter {
  actor?: string;
  action?: string;
  workspace_id?: string;
  session_id?: string;
  outcome?: string;
  from?: string;
  to?: string;
  q?: string;
}
