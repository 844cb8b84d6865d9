/**
 * A web application in a frame, at the session's own origin. There is no stream of ours: a one-use ticket is posted into
 * the frame, which makes it a cookie of that origin; then the application is on its own. What happens in a frame of
 * another origin cannot be seen, so the gateway is asked there how the application is (`/.portcullis/state`).
 */
import { CLOSE, type Capabilities, type Closed, type OpenProtocol, type Protocol, type ProtocolEvents } from '../core/protocol';

export const capabilities: Capabilities = { clipboardIn: false, clipboardOut: false, quality: false, keyboardModes: false, windows: false, application: true };

/** The frame has loaded something by then, or the browser does not show it. */
const LOAD_LIMIT_MS = 15_000;
const POLL_MS = 5_000;
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

/** Posts the ticket to the origin, into a frame or window of this name. In a form, so that it is in no address. */
export function enter(origin: string, ticket: string, target: string): void {
  const form = document.createElement('form');
  form.method = 'post';
  form.action = `${origin}/.portcullis/enter`;
  form.target = target;
  form.hidden = true;
  // A window of its own gets no handle to this one.
  if (target === '_blank') form.rel = 'noopener';
  const input = document.createElement('input');
  input.name = 'ticket';
  input.type = 'hidden';
  input.value = ticket;
  form.append(input);
  document.body.append(form);
  form.submit();
  form.remove();
}

class Frame implements Protocol {
  readonly #frame = document.createElement('iframe');
  readonly #origin: string;
  readonly #events: ProtocolEvents;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #connected = false;
  #closed = false;

  constructor(target: HTMLElement, url: string, events: ProtocolEvents) {
    const { origin, searchParams } = new URL(url);
    this.#origin = origin;
    this.#events = events;
    const frame = this.#frame;
    frame.name = `app-${crypto.randomUUID()}`;
    frame.className = 'application';
    frame.title = 'Application';
    frame.setAttribute('sandbox', SANDBOX);
    frame.allow = PERMISSIONS;
    frame.referrerPolicy = 'strict-origin';
    frame.dataset.testid = 'viewer-frame';
    target.replaceChildren(frame);
    enter(origin, searchParams.get('ticket') ?? '', frame.name);
    // An empty frame loads, too; what counts is what comes after the ticket.
    frame.addEventListener('load', () => void this.#look(), { once: true });
    this.#timer = setTimeout(() => void this.#look(), LOAD_LIMIT_MS);
  }

  async #look(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    let now: AppState;
    try {
      // Whether the application answers matters on the way in; later it shows itself.
      const answer = await fetch(`${this.#origin}/.portcullis/state${this.#connected ? '' : '?answering'}`, { credentials: 'include', cache: 'no-store', redirect: 'error' });
      now = (await answer.json()) as AppState;
    } catch {
      // Once in, a question without answer is a lost network, which the viewer sees by itself. Before, nothing leads there: its name or its certificate.
      if (!this.#connected) this.#end({ code: CLOSE.notShown, reason: '' });
      else this.#later();
      return;
    }
    if (this.#closed) return;
    const end = closeOf(now, !this.#connected);
    if (end) return this.#end(end);
    if (!this.#connected) {
      this.#connected = true;
      this.#events.connected();
    }
    this.#later();
  }

  #later(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), POLL_MS);
  }

  #end(how: Pick<Closed, 'code' | 'reason'>): void {
    if (this.#closed) return;
    this.#closed = true;
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
