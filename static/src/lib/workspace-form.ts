/** What the workspace form holds, from the API's words and back to them. Pure, so that it is tested without a page. */
import type { Role, Server, StreamPolicy, Workspace } from '../api/types';

/** Where the desktop is: started by an agent, a service that an agent's host allows, a port of a standard WireGuard host, or a name that the configuration allows. */
export type Where = 'own' | 'service' | 'peer' | 'direct';
export type Rule = 'first_use' | 'pinned' | 'authority';

export interface ServerForm {
  where: Where;
  host: string;
  port: number;
  service: string;
  direct: string;
  credential: Server['credential'];
  username: string;
  domain: string;
  /** Write-only: empty leaves what is stored. */
  password: string;
  rule: Rule;
  fingerprint: string;
  roots: string;
  name: string;
  exclusive: boolean;
  keyboard: string;
}

type Kind = Workspace['type'];
/** The places a kind of desktop can be at; the first is the usual one. */
export const PLACES: Record<string, readonly Where[]> = { linux: ['own'], vnc: ['peer', 'service', 'direct'], rdp: ['service', 'peer', 'own', 'direct'] };
const PORTS: Record<string, number> = { vnc: 5900, rdp: 3389 };

export const ROLES: readonly Role[] = ['member', 'admin', 'security'];

export function placesOf(kind: Kind): readonly Where[] {
  return PLACES[kind] ?? ['own'];
}

export function serverOf(kind: Kind, workspace: Workspace | null): ServerForm {
  const target = (workspace?.target ?? null) as { host_id?: string; port?: number; service?: string; direct?: string } | null;
  const server = workspace?.server;
  const where: Where = target?.direct ? 'direct' : target?.service ? 'service' : target?.host_id ? 'peer' : workspace ? 'own' : (placesOf(kind)[0] ?? 'own');
  return {
    where,
    host: target?.host_id ?? '',
    port: target?.port ?? PORTS[kind] ?? 5900,
    service: target?.service ?? '',
    direct: target?.direct ?? '',
    credential: server?.credential ?? 'workspace',
    username: server?.username ?? '',
    domain: server?.domain ?? '',
    password: '',
    rule: server?.trust?.rule ?? 'first_use',
    fingerprint: server?.trust?.fingerprint ?? '',
    roots: server?.trust?.roots ?? '',
    name: server?.trust?.name ?? '',
    exclusive: server?.exclusive ?? false,
    keyboard: server?.keyboard ?? '',
  };
}

export const policyOf = (workspace: Workspace | null): StreamPolicy => ({ ...(workspace?.policy ?? { clipboard: 'both', files: false, read_only: false }) });

/** 64 hexadecimal digits, colons and a leading `sha256:` allowed. */
export function isFingerprint(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text.trim().toLowerCase().replace(/^sha256:/, '').replaceAll(':', ''));
}

export type Lack = 'host' | 'port' | 'service' | 'direct' | 'username' | 'fingerprint' | 'roots' | 'name';

/** What is missing or cannot be right. */
export function lacking(kind: Kind, form: ServerForm): Lack[] {
  if (form.where === 'own') return [];
  const lacks: Lack[] = [];
  if (form.where !== 'direct' && !form.host) lacks.push('host');
  if (form.where === 'peer' && !(Number.isInteger(form.port) && form.port > 0 && form.port < 65_536)) lacks.push('port');
  if (form.where === 'service' && !form.service.trim()) lacks.push('service');
  if (form.where === 'direct' && !form.direct.trim()) lacks.push('direct');
  if (kind === 'rdp' && form.credential === 'workspace' && !form.username.trim()) lacks.push('username');
  if (form.rule === 'pinned' && !isFingerprint(form.fingerprint)) lacks.push('fingerprint');
  if (form.rule === 'authority' && !form.roots.includes('BEGIN CERTIFICATE')) lacks.push('roots');
  if (form.rule === 'authority' && !form.name.trim()) lacks.push('name');
  return lacks;
}

/** The part of a request's body that speaks of the server; empty for a desktop that an agent starts. */
export function serverBody(kind: Kind, form: ServerForm) {
  if (form.where === 'own') return {};
  const target =
    form.where === 'direct'
      ? { direct: form.direct.trim() }
      : form.where === 'service'
        ? { host_id: form.host, service: form.service.trim() }
        : { host_id: form.host, port: form.port };
  const trust =
    form.rule === 'pinned'
      ? { rule: form.rule, fingerprint: form.fingerprint.trim() }
      : form.rule === 'authority'
        ? { rule: form.rule, roots: form.roots.trim(), name: form.name.trim() }
        : { rule: form.rule };
  const stored = form.credential === 'workspace';
  return {
    target,
    server: {
      credential: form.credential,
      username: stored ? form.username.trim() : null,
      domain: stored ? form.domain.trim() : null,
      trust,
      exclusive: form.exclusive,
      keyboard: kind === 'rdp' && form.keyboard ? form.keyboard : null,
    },
    ...(stored && form.password ? { password: form.password } : {}),
  };
}

/** A fingerprint in groups that two people can read to each other. */
export function readable(fingerprint: string | null | undefined): string {
  const digits = (fingerprint ?? '').toLowerCase().replace(/^sha256:/, '').replaceAll(':', '');
  return digits.match(/.{1,4}/g)?.join(' ') ?? '';
}
