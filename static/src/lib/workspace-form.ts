/** Converts a workspace to form state and back to a request body. */
import type { Host, Role, Server, StreamPolicy, Web, Workspace } from '../api/types';

/** Where the server is: started by an agent, a service of a host with an agent, a port of a standard WireGuard host, or a direct target of the configuration. */
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
  /** Write-only; empty keeps the stored one. */
  password: string;
  rule: Rule;
  fingerprint: string;
  roots: string;
  name: string;
  exclusive: boolean;
  keyboard: string;
}

type Kind = Workspace['type'];
/** Locations available to a workspace type, default first. */
export const LOCATIONS: Record<string, readonly Where[]> = { linux: ['own'], vnc: ['peer', 'service', 'direct'], rdp: ['service', 'peer', 'own', 'direct'], html5: ['service', 'peer', 'direct'] };
const PORTS: Record<string, number> = { vnc: 5900, rdp: 3389, html5: 8080 };

export const ROLES: readonly Role[] = ['member', 'admin', 'security'];

export function locationsOf(kind: Kind): readonly Where[] {
  return LOCATIONS[kind] ?? ['own'];
}

export function serverOf(kind: Kind, workspace: Workspace | null): ServerForm {
  const target = (workspace?.target ?? null) as { host_id?: string; port?: number; service?: string; direct?: string } | null;
  const server = workspace?.server;
  const where: Where = target?.direct ? 'direct' : target?.service ? 'service' : target?.host_id ? 'peer' : workspace ? 'own' : (locationsOf(kind)[0] ?? 'own');
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

/** Form state of how long sessions last; null: as the installation is set. */
export interface TimesForm {
  /** Hours. */
  duration: number | null;
  /** Hours. */
  extension: number | null;
  /** Minutes. */
  idle: number | null;
}

export function timesOf(workspace: Workspace | null): TimesForm {
  const limits = workspace?.session_limits;
  const of = (seconds: number | null | undefined, unit: number) => (seconds == null ? null : seconds / unit);
  return { duration: of(limits?.duration_seconds, 3600), extension: of(limits?.extension_seconds, 3600), idle: of(limits?.idle_timeout_seconds, 60) };
}

export function timesBody(form: TimesForm) {
  const of = (value: number | null, unit: number) => (value === null ? null : Math.round(value * unit));
  return { duration_seconds: of(form.duration, 3600), extension_seconds: of(form.extension, 3600), idle_timeout_seconds: of(form.idle, 60) };
}

/** Times that the gateway would not accept. */
export function invalidTimes(form: TimesForm): (keyof TimesForm)[] {
  const { duration_seconds: duration, extension_seconds: extension, idle_timeout_seconds: idle } = timesBody(form);
  const longest = 30 * 86_400;
  const invalid: (keyof TimesForm)[] = [];
  if (duration !== null && !(duration >= 60 && duration <= longest)) invalid.push('duration');
  if (extension !== null && !(extension >= 0 && extension <= longest)) invalid.push('extension');
  if (idle !== null && idle !== 0 && !(idle >= 60 && idle <= longest)) invalid.push('idle');
  return invalid;
}

export const policyOf = (workspace: Workspace | null): StreamPolicy => ({ ...(workspace?.policy ?? { clipboard: 'both', files: false, read_only: false }) });

/** 64 hexadecimal digits, colons and a leading `sha256:` allowed. */
export function isFingerprint(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text.trim().toLowerCase().replace(/^sha256:/, '').replaceAll(':', ''));
}

export type InvalidField = 'host' | 'port' | 'service' | 'direct' | 'username' | 'fingerprint' | 'roots' | 'name' | 'start' | 'header' | 'size';

/** Fields that are missing or invalid. */
export function invalidFields(kind: Kind, form: ServerForm, web: WebForm | null = null): InvalidField[] {
  if (form.where === 'own') return [];
  const invalid: InvalidField[] = [];
  if (form.where !== 'direct' && !form.host) invalid.push('host');
  if (form.where === 'peer' && !(Number.isInteger(form.port) && form.port > 0 && form.port < 65_536)) invalid.push('port');
  if (form.where === 'service' && !form.service.trim()) invalid.push('service');
  if (form.where === 'direct' && !form.direct.trim()) invalid.push('direct');
  if (kind === 'rdp' && form.credential === 'workspace' && !form.username.trim()) invalid.push('username');
  if (web) {
    if (!/^\/(?![/\\])[!-~]*$/.test(web.start.trim())) invalid.push('start');
    if (web.signIn === 'header' && !web.header.trim()) invalid.push('header');
    if (web.signIn === 'basic' && form.credential === 'workspace' && !form.username.trim()) invalid.push('username');
    if (web.maxMib !== null && !(web.maxMib >= 0)) invalid.push('size');
    // Plain HTTP has no certificate.
    if (web.scheme === 'http') return invalid;
  }
  if (form.rule === 'pinned' && !isFingerprint(form.fingerprint)) invalid.push('fingerprint');
  if (form.rule === 'authority' && !form.roots.includes('BEGIN CERTIFICATE')) invalid.push('roots');
  if (form.rule === 'authority' && !form.name.trim()) invalid.push('name');
  return invalid;
}

/** The server part of a request body; empty for a desktop that an agent starts. */
export function serverBody(kind: Kind, form: ServerForm, web: WebForm | null = null) {
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
  if (web) return { target, ...webServer(form, web, trust) };
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

/** The server part of a web application: a credential only where the gateway signs in, a trust rule only for HTTPS. */
function webServer(form: ServerForm, web: WebForm, trust: { rule: Rule }) {
  const signs = web.signIn !== 'none';
  const stored = signs && form.credential === 'workspace';
  return {
    server: {
      credential: signs ? form.credential : ('workspace' as const),
      ...(stored ? { username: web.signIn === 'basic' ? form.username.trim() : '' } : {}),
      ...(web.scheme === 'https' ? { trust } : {}),
    },
    web: webBody(web),
    ...(stored && form.password ? { password: form.password } : {}),
  };
}

const MIB = 1024 * 1024;

/** Form state of a web application. */
export interface WebForm {
  scheme: Web['scheme'];
  host: string;
  start: string;
  headers: boolean;
  audience: string;
  signIn: Web['sign_in']['by'];
  header: string;
  /** Separated by commas or spaces. */
  methods: string;
  /** One a line. */
  paths: string;
  upload: boolean;
  download: boolean;
  /** Largest request in MiB; null: any. */
  maxMib: number | null;
}

export function webOf(workspace: Workspace | null): WebForm {
  const web = workspace?.web;
  return {
    scheme: web?.scheme ?? 'http',
    host: web?.host ?? '',
    start: web?.start ?? '/',
    headers: web?.identity.headers ?? false,
    audience: web?.identity.assertion_audience ?? '',
    signIn: web?.sign_in.by ?? 'none',
    header: web?.sign_in.header ?? '',
    methods: web?.requests.methods.join(', ') ?? '',
    paths: web?.requests.paths.join('\n') ?? '',
    upload: web?.requests.upload ?? true,
    download: web?.requests.download ?? true,
    maxMib: web?.requests.max_request ? web.requests.max_request / MIB : null,
  };
}

export function webBody(form: WebForm) {
  const words = (text: string) => text.split(/[\s,]+/).filter(Boolean);
  return {
    scheme: form.scheme,
    host: form.host.trim(),
    start: form.start.trim(),
    identity: { headers: form.headers, assertion_audience: form.audience.trim() || null },
    sign_in: form.signIn === 'header' ? { by: form.signIn, header: form.header.trim() } : { by: form.signIn },
    requests: {
      methods: words(form.methods).map((method) => method.toUpperCase()),
      paths: form.paths.split('\n').map((path) => path.trim()).filter(Boolean),
      upload: form.upload,
      download: form.download,
      max_request: Math.round((form.maxMib ?? 0) * MIB),
    },
  };
}

export interface ServiceOption {
  name: string;
  /** The agent could connect to it when it last tried. */
  reachable: boolean;
  /** The host's agent offers it. */
  offered: boolean;
}

/** Services of a host including the present one; null when its agent has not reported any. */
export function servicesOf(host: Host | undefined, present: string): ServiceOption[] | null {
  if (!host?.offers) return null;
  const offered = host.offers.services.map(({ name, reachable }) => ({ name, reachable, offered: true }));
  const missing = present && !offered.some(({ name }) => name === present);
  return missing ? [...offered, { name: present, reachable: false, offered: false }] : offered;
}

/** Whether a host's agent supports services for this workspace type; true when unknown. */
export const servesType = (host: Host | undefined, kind: Kind) => !host?.offers || host.offers.service_types.includes(kind);

/** A fingerprint in groups of four digits. */
export function groupedFingerprint(fingerprint: string | null | undefined): string {
  const digits = (fingerprint ?? '').toLowerCase().replace(/^sha256:/, '').replaceAll(':', '');
  return digits.match(/.{1,4}/g)?.join(' ') ?? '';
}
