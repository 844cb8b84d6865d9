/**
 * A web application in a frame, at the session's own origin. There is no stream of ours: a one-use ticket is brought to
 * that origin, which makes it a cookie; then the application is on its own. What happens in a frame of
 * another origin cannot be seen, so the gateway is asked there how the application is (`/.portcullis/state`).
 */
import { CLOSE, type Capabilities, type Closed, type OpenProtocol, type Protocol, type ProtocolEvents } from '../core/protocol';

export const capabilities: Capabilities = { clipboardIn: false, clipboardOut: false, quality: false, keyboardModes: false, windows: false, application: true };

/** The frame has loaded something by then, or the browser does not show it. */
const LOAD_LIMIT_MS = 15_000;
/** The gateway answers when there is something to say, or after half a minute; asked again so soon after it did, and after it could not be asked. */
const PAUSE_MS = 500;
const RETRY_MS = 5_000;
/** No `allow-top-navigation`: the application cannot take the viewer's place. Its own windows are outside of the sandbox. */
const SANDBOX = 'allow-scripts allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads allow-modals allow-pointer-lock';
const PERMISSIONS = 'fullscreen; clipboard-read; clipboard-write';

/** What `/.portcullis/state` says. `none`: this browser sent no cookie that opens it. */
export interface AppState {
  state: 'open' | 'failing' | 'ended' | 'none';
  reason?: string;
  leg?: string;
  detail?: string;
}

/** What a state means for the connection; null: go on. `entered`: a ticket was just brought. */
export function closeOf(now: AppState, entered: boolean): Pick<Closed, 'code' | 'reason'> | null {
  switch (now.state) {
    case 'open':
      return null;
    case 'failing':
      // In use it shows its own page of that, and the person may go on elsewhere in it.
      return entered ? { code: CLOSE.unreachable, reason: `${now.leg === 'host' ? 'host' : 'application'}: ${now.detail ?? ''}` } : null;
    case 'none':
      // The gateway was restarted, and knows its cookies no more: a new ticket makes a new one. Unless this browser keeps none.
      return entered ? { code: CLOSE.notKept, reason: '' } : { code: 1001, reason: 'retry' };
    case 'ended':
      if (now.reason === 'signed_out') return { code: CLOSE.signedOut, reason: '' };
      if (now.reason === 'idle') return { code: CLOSE.idle, reason: '' };
      if (now.reason === 'reopen') return { code: 1001, reason: 'retry' };
      return { code: CLOSE.ended, reason: now.reason ?? '' };
  }
}

/** Whether browsers take an application and the page at `host` for one site, as the gateway sees it: the application's name is below the page's. */
export function isOneSite(origin: string, host: string): boolean {
  return host.includes('.') && new URL(origin).hostname.endsWith(`.${host}`);
}

/** Where the application opens, once this browser has its cookie; or with what status it was refused. */
export type Entered = { start: string } | { refused: number };

/**
 * Brings the ticket to the origin, in a body, so that it is in no address. A request of this page passes no service worker of the
 * application, which would see the ticket in a form that is posted into the frame.
 */
export async function enter(origin: string, ticket: string): Promise<Entered> {
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

/** What a refused ticket means. One that was too old, or used, is replaced by the next attempt's. */
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
  // A tab of another site keeps cookies apart from those that this page brings: it has to bring the ticket itself.
  const form = document.createElement('form');
  form.method = 'post';
  form.action = `${origin}/.portcullis/enter`;
  form.target = '_blank';
  form.hidden = true;
  // It gets no handle to this page.
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
 * Tells an application that loads itself again and again. One that needs its browser's storage, and is denied it in a frame of another site,
 * does that for ever; what it misses cannot be seen from here.
 */
export class Reloads {
  #at: number[] = [];

  /** It has loaded. `active`: a person has just done something there. True once it has done so too often by itself. */
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
  readonly #reloads = new Reloads();
  readonly #over = new AbortController();
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
    let entered: Entered;
    try {
      entered = await enter(this.#origin, ticket);
    } catch {
      // Nothing leads there: its name or its certificate.
      return this.#end({ code: CLOSE.notShown, reason: '' });
    }
    if (this.#closed) return;
    if ('refused' in entered) return this.#end(closeOfRefusal(entered.refused));
    // An empty frame loads, too; what counts is what comes now.
    this.#frame.addEventListener('load', () => this.#loaded());
    this.#frame.src = entered.start;
    this.#timer = setTimeout(() => void this.#look(), LOAD_LIMIT_MS);
  }

  #loaded(): void {
    if (!this.#connected) void this.#look();
    // What is done in a frame counts as done in the page around it (HTML standard, "activation notification").
    const active = navigator.userActivation?.isActive ?? false;
    if (!isOneSite(this.#origin, location.hostname) && this.#reloads.loaded(Date.now(), active)) this.#events.restless();
  }

  async #look(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    let now: AppState;
    try {
      // Whether the application answers matters on the way in; later it shows itself.
      const answer = await fetch(`${this.#origin}/.portcullis/state${this.#connected ? '?wait' : '?answering'}`, { credentials: 'include', cache: 'no-store', redirect: 'error', signal: this.#over.signal });
      now = (await answer.json()) as AppState;
    } catch {
      if (this.#closed) return;
      // Once in, a question without answer is a lost network, which the viewer sees by itself. Before, nothing leads there: its name or its certificate.
      if (!this.#connected) this.#end({ code: CLOSE.notShown, reason: '' });
      else this.#later(RETRY_MS);
      return;
    }
    if (this.#closed) return;
    const end = closeOf(now, !this.#connected);
    if (end) return this.#end(end);
    if (!this.#connected) {
      this.#connected = true;
      this.#events.connected();
    }
    this.#later(PAUSE_MS);
  }

  #later(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), ms);
  }

  #end(how: Pick<Closed, 'code' | 'reason'>): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#over.abort();
    clearTimeout(this.#timer);
    this.#frame.remove();
    this.#events.closed({ ...how, lastPicture: null });
  }

  close(): void {
    this.#end({ code: 1006, reason: '' });
  }

  focus(): void {
    this.#frame.focus();
  }

  // A web application has its own size, quality, keys and clipboard.
  setSizing(): void {}
  setQuality(): void {}
  setKeyboardMode(): void {}
  sendChord(): void {}
  sendText(): void {}
  setRemoteClipboard(): void {}
}

export const driver = (target: HTMLElement): OpenProtocol => (url, events) => new Frame(target, url, events);
