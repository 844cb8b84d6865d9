/**
 * The one place where names from the generated OpenAPI types are mentioned: everything else imports these.
 * When the server's schema renames something, this file (and `calls.ts`) is what changes.
 */
import type { components } from './schema';

type Schemas = components['schemas'];

export type User = Schemas['User'];
export type Me = Schemas['Me'];
export type Role = 'member' | 'admin' | 'security';
export type LoginAnswer = Schemas['LoginResponse'];
export type Enrolment = Schemas['TotpEnrollResponse'];

export type Workspace = Schemas['Workspace'];
export type WorkspaceInput = Schemas['WorkspaceCreate'];
export type WorkspaceChange = Schemas['WorkspacePatch'];
export type Launched = Schemas['LaunchResponse'];
export type Stopped = Schemas['StopResponse'];

export type Session = Schemas['Session'];
export type Ticket = Schemas['Ticket'];

export type UserInput = Schemas['UserCreate'];
export type UserChange = Schemas['UserPatch'];

export type Host = Schemas['Host'];
export type JoinToken = Schemas['JoinToken'];

export type AuditEntry = Schemas['AuditEntry'];
export type AuditPage = Schemas['AuditPage'];
export type AuditVerdict = Schemas['AuditVerify'];

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
