/**
 * A web application in a frame, at the origin of its session. A one-use ticket is posted to that origin, which exchanges it
 * for a cookie. A cross-origin frame cannot be observed, so the state of the application is polled there
 * (`/.portcullis/state`).
 */
import { CLOSE, type Capabilities, type Closed, type OpenProtocol, type PasteResult, type Protocol, type ProtocolEvents } from '../core/protocol';

export const capabilities: Capabilities = { clipboardIn: false, clipboardOut: false, quality: false, keyboardModes: false, windows: false, application: true };

/** Time limit for the frame to load. */
const LOAD_LIMIT_MS = 15_000;
/** The state request is a long poll of 30 s: pause after an answer, and after a failure. */
const POLL_PAUSE_MS = 500;
const RETRY_MS = 5_000;
/** Without `allow-top-navigation` the application cannot navigate the viewer away. Its popups are not sandboxed. */
const SANDBOX = 'allow-scripts allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads allow-modals allow-pointer-lock';
const PERMISSIONS = 'fullscreen; clipboard-read; clipboard-write';

/** Response of `/.portcullis/state`. `none`: the request had no valid cookie. */
export interface AppState {
  state: 'open' | 'failing' | 'ended' | 'none';
  reason?: string;
  leg?: string;
  detail?: string;
}

/** Maps a state to a close; null keeps it open. `entered`: the ticket was just exchanged. */
export function closeOf(now: AppState, entered: boolean): Pick<Closed, 'code' | 'reason'> | null {
  switch (now.state) {
    case 'open':
      return null;
    case 'failing':
      // After the first load the application shows its own error page.
      return entered ? { code: CLOSE.unreachable, reason: `${now.leg === 'host' ? 'host' : 'application'}: ${now.detail ?? ''}` } : null;
    case 'none':
      // After a restart of the gateway its cookies are invalid and a new ticket is needed; right after the exchange it means that the browser blocks the cookie.
      return entered ? { code: CLOSE.cookieBlocked, reason: '' } : { code: 1001, reason: 'retry' };
    case 'ended':
      if (now.reason === 'signed_out') return { code: CLOSE.signedOut, reason: '' };
      if (now.reason === 'idle') return { code: CLOSE.idle, reason: '' };
      if (now.reason === 'reopen') return { code: 1001, reason: 'retry' };
      return { code: CLOSE.ended, reason: now.reason ?? '' };
  }
}

/** Whether application and page are same-site: the host of the application is a subdomain of the page's. */
export function isOneSite(origin: string, host: string): boolean {
  return host.includes('.') && new URL(origin).hostname.endsWith(`.${host}`);
}

/** The start URL of the application, or the status of the refusal. */
export type EnterResult = { start: string } | { refused: number };

/**
 * Posts the ticket to the origin, in the body, so that no URL contains it. Service workers of the application do not see a
 * fetch of this page, but would see a form posted into the frame.
 */
export async function enter(origin: string, ticket: string): Promise<EnterResult> {
  const answer = await fetch(`${origin}/.portcullis/enter`, {
    method: 'POST',
    headers: { accept: 'application/json' },
    body: new URLSearchParams({ ticket }),
    credentials: 'include',
    cache: 'no-store',
    redirect: 'error',
    signal: AbortSignal.timeout(LOAD_LIMIT_MS),
  });
  if (!answer.ok) return { refused: answer.status };
  const { start } = (await answer.json()) as { start: string };
  if (new URL(start).origin !== origin) throw new Error('It opens elsewhere');
  return { start };
}

/** Maps a refused ticket to a close. An expired or used one is replaced in the next attempt. */
export function closeOfRefusal(status: number): Pick<Closed, 'code' | 'reason'> {
  return status === 409 ? { code: CLOSE.tooManyViewers, reason: '' } : { code: 1001, reason: 'retry' };
}

/** Opens the application in a tab of its own. */
export async function enterTab(origin: string, ticket: string): Promise<void> {
  if (isOneSite(origin, location.hostname)) {
    const entered = await enter(origin, ticket);
    if ('refused' in entered) throw new Error(`Refused: ${entered.refused}`);
    open(entered.start, '_blank', 'noopener');
    return;
  }
  // Cookie partitioning: a cross-site tab does not have the cookie that this page got, so it must post a ticket itself.
  const form = document.createElement('form');
  form.method = 'post';
  form.action = `${origin}/.portcullis/enter`;
  form.target = '_blank';
  form.hidden = true;
  // No window.opener.
  form.rel = 'noopener';
  const input = document.createElement('input');
  input.name = 'ticket';
  input.type = 'hidden';
  input.value = ticket;
  form.append(input);
  document.body.append(form);
  form.submit();
  form.remove();
}

const RELOADS = 5;
const RELOADS_WITHIN_MS = 30_000;

/**
 * Detects an application that keeps reloading. Applications do that when their storage is blocked in a cross-site frame.
 */
export class ReloadDetector {
  #at: number[] = [];

  /** Records a load. `active`: after a user activation. True once there were too many without one. */
  loaded(now: number, active: boolean): boolean {
    if (active) this.#at = [];
    else this.#at.push(now);
    this.#at = this.#at.filter((at) => now - at < RELOADS_WITHIN_MS);
    return this.#at.length >= RELOADS;
  }
}

class Frame implements Protocol {
  readonly #frame = document.createElement('iframe');
  readonly #origin: string;
  readonly #events: ProtocolEvents;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #reloads = new ReloadDetector();
  readonly #abort = new AbortController();
  #connected = false;
  #closed = false;

  constructor(target: HTMLElement, url: string, events: ProtocolEvents) {
    const { origin, searchParams } = new URL(url);
    this.#origin = origin;
    this.#events = events;
    const frame = this.#frame;
    frame.className = 'application';
    frame.title = 'Application';
    frame.setAttribute('sandbox', SANDBOX);
    frame.allow = PERMISSIONS;
    frame.referrerPolicy = 'strict-origin';
    frame.dataset.testid = 'viewer-frame';
    target.replaceChildren(frame);
    void this.#enter(searchParams.get('ticket') ?? '');
  }

  async #enter(ticket: string): Promise<void> {
    let entered: EnterResult;
    try {
      entered = await enter(this.#origin, ticket);
    } catch {
      // Not reachable: name resolution or certificate.
      return this.#end({ code: CLOSE.originUnreachable, reason: '' });
    }
    if (this.#closed) return;
    if ('refused' in entered) return this.#end(closeOfRefusal(entered.refused));
    // Added after the exchange, because an empty frame fires load, too.
    this.#frame.addEventListener('load', () => this.#loaded());
    this.#frame.src = entered.start;
    this.#timer = setTimeout(() => void this.#pollState(), LOAD_LIMIT_MS);
  }

  #loaded(): void {
    if (!this.#connected) void this.#pollState();
    // User activation in a frame activates its ancestors (HTML standard, "activation notification").
    const active = navigator.userActivation?.isActive ?? false;
    if (!isOneSite(this.#origin, location.hostname) && this.#reloads.loaded(Date.now(), active)) this.#events.reloadLoop();
  }

  async #pollState(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    let now: AppState;
    try {
      // Whether the application answers matters only for the first load.
      const answer = await fetch(`${this.#origin}/.portcullis/state${this.#connected ? '?wait' : '?answering'}`, { credentials: 'include', cache: 'no-store', redirect: 'error', signal: this.#abort.signal });
      now = (await answer.json()) as AppState;
    } catch {
      if (this.#closed) return;
      // After the first load a failed request is a lost network, which the viewer detects. Before it, the origin cannot be reached: name resolution or certificate.
      if (!this.#connected) this.#end({ code: CLOSE.originUnreachable, reason: '' });
      else this.#schedulePoll(RETRY_MS);
      return;
    }
    if (this.#closed) return;
    const end = closeOf(now, !this.#connected);
    if (end) return this.#end(end);
    if (!this.#connected) {
      this.#connected = true;
      this.#events.connected();
    }
    this.#schedulePoll(POLL_PAUSE_MS);
  }

  #schedulePoll(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#pollState(), ms);
  }

  #end(how: Pick<Closed, 'code' | 'reason'>): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#abort.abort();
    clearTimeout(this.#timer);
    this.#frame.remove();
    this.#events.closed({ ...how, lastFrame: null });
  }

  close(): void {
    this.#end({ code: 1006, reason: '' });
  }

  focus(): void {
    this.#frame.focus();
  }

  // Not applicable to web applications.
  setSizing(): void {}
  follow(): void {}
  setDensity(): void {}
  setQuality(): void {}
  setKeyboardMode(): void {}
  sendChord(): void {}
  sendText(): void {}
  async setRemoteClipboard(): Promise<PasteResult> {
    return { replaced: '', offered: false };
  }
  key(): void {}
  releaseInput(): void {}
  composes(): boolean {
    return false;
  }
}

export const driver = (target: HTMLElement): OpenProtocol => (url, events) => new Frame(target, url, events);
