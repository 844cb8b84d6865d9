/**
 * The one place where names from the generated OpenAPI types are mentioned: everything else imports these.
 * When the server's schema renames something, this file (and `calls.ts`) is what changes.
 */
import type { components } from './schema';

type Schemas = components['schemas'];

export type User = Schemas['UserDetails'];
export type Me = Schemas['Me'];
export type Role = 'member' | 'admin' | 'security';
export type SignedIn = Schemas['SignedIn'];
export type LoginAnswer = Schemas['LoginAnswer'];
export type Enrolment = Schemas['TotpSecret'];

export type SignInRecord = Schemas['SignInRecord'];

export type StreamPolicy = Schemas['StreamPolicy'];
export type Server = Schemas['WorkspaceServer'];
export type Web = Schemas['WebApplication'];
export type CredentialInput = Schemas['CredentialInput'];
export type Workspace = Schemas['Workspace'];
export type WorkspaceInput = Schemas['CreateWorkspace'];
export type WorkspaceChange = Schemas['UpdateWorkspace'];
export type Launched = Schemas['Launch'];
export type Stopped = Schemas['Stopped'];

export type Session = Schemas['Session'];
export type Ticket = Schemas['Ticket'];

export type UserInput = Schemas['CreateUser'];
export type UserChange = Schemas['UpdateUser'];

export type Host = Schemas['Host'];
export type JoinToken = Schemas['JoinToken'];
export type HostChange = Schemas['UpdateHost'];
export type PeerInput = Schemas['AddPeer'];

export type AuditEntry = Schemas['AuditEntry'];
export type AuditPage = Schemas['AuditPage'];
export type AuditVerdict = Schemas['AuditVerification'];

export type AppRequest = Schemas['AppRequest'];
export type RequestPage = Schemas['RequestPage'];

export interface RequestFilter {
  method?: string;
  path?: string;
  status?: string;
  ended?: string;
}

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
