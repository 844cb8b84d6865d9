/**
 * The viewer's connection to one session: reads the session, gets a ticket, opens the stream, and reconnects until the
 * session ends. DOM, clock and randomness are ports, so that tests control them.
 */
import { ApiError } from '../../api/http';
import type { Session, Ticket } from '../../api/types';
import { backoff } from './backoff';
import { type HopFailure, failureOf } from './hops';
import { CLOSE, type Closed, type OpenProtocol, type Protocol, type Sizing } from './protocol';

/** Where the credential comes from: stored for the workspace, stored for the user, or asked for each time. */
export type CredentialSource = 'workspace' | 'user' | 'ask';

export type ConnectionState =
  /** Not connected yet. */
  | { kind: 'opening'; since: number; failure: HopFailure | null }
  | { kind: 'connected'; since: number }
  /** Was connected; `since` is when the stream broke. */
  | { kind: 'reconnecting'; since: number; failure: HopFailure | null }
  /** Waits for a credential; `start` continues. `refused`: the previous one was rejected, `why` is the reason code. */
  | { kind: 'credential'; source: 'user' | 'ask'; refused: boolean; why: string }
  /** The following are final; reloading the page starts over. */
  | { kind: 'ended'; reason: string }
  | { kind: 'signed_out' }
  | { kind: 'missing' }
  | { kind: 'too_many_viewers' }
  /** The desktop presented a certificate that is not trusted. */
  | { kind: 'certificate' }
  /** The desktop rejected the credential of the workspace; `why` is the reason code, empty when none is stored. */
  | { kind: 'refused'; why: string }
  /** The stream violated the policy; `redirected`: the server redirects to another one. */
  | { kind: 'forbidden'; why: string }
  /** The desktop closed the connection; `why` is the reason code, if it gave one. */
  | { kind: 'desktop_closed'; why: string }
  /** A web application was closed for inactivity. */
  | { kind: 'idle' }
  /** The browser cannot show the application in a frame: its cookie is blocked (`cookie`) or its origin cannot be reached (`origin`). */
  | { kind: 'frame_blocked'; why: 'cookie' | 'origin' };

export interface ConnectionPorts {
  session(): Promise<Session>;
  ticket(): Promise<Ticket>;
  /** Loads the protocol of the session. */
  protocol(session: Session): Promise<OpenProtocol>;
  streamUrl(ticket: Ticket, session: Session): string;
  now(): number;
  random(): number;
  /** Runs `act` after `ms`; the returned function cancels it. */
  later(ms: number, act: () => void): () => void;
}

export interface ConnectionEvents {
  state(state: ConnectionState): void;
  /** The session was read again (latency, times). */
  session(session: Session): void;
  /** The last frame of a broken stream. */
  lastFrame(canvas: HTMLCanvasElement): void;
  clipboard(text: string): void;
  clipboardLost(): void;
  pinched(sizing: Sizing): void;
  lost(text: string): void;
  reloadLoop(): void;
}

const POLL_MS = 5_000;
/** Interval after an unanswered poll. */
const SUSPECT_POLL_MS = 1_000;
/** After so many consecutive unanswered polls the stream is closed, although its socket is open. */
const MAX_UNANSWERED_POLLS = 2;

/** Parses a close reason: the source of the credential, then the reason code of a refusal. */
function credentialState(reason: string, refused: boolean): Extract<ConnectionState, { kind: 'credential' | 'refused' }> {
  const [source, why = ''] = reason.split(' ');
  if (source === 'workspace') return { kind: 'refused', why };
  return { kind: 'credential', source: source === 'user' ? 'user' : 'ask', refused, why };
}

export class ViewerConnection {
  state: ConnectionState;
  /** The open stream; null while there is none. */
  protocol: Protocol | null = null;

  readonly #ports: ConnectionPorts;
  readonly #events: ConnectionEvents;
  #attempt = 0;
  #busy = false;
  #cancel: (() => void) | null = null;
  #unanswered = 0;
  #pending: Protocol | null = null;

  constructor(ports: ConnectionPorts, events: ConnectionEvents) {
    this.#ports = ports;
    this.#events = events;
    this.state = { kind: 'opening', since: ports.now(), failure: null };
  }

  start(): void {
    if (this.state.kind === 'credential') this.state = { kind: 'opening', since: this.#ports.now(), failure: null };
    this.#events.state(this.state);
    void this.#connect();
  }

  /** Retries without waiting for the backoff (online event, tab visible again). */
  retryNow(): void {
    if (this.#final || this.#busy || this.#pending) return;
    this.#cancel?.();
    if (this.state.kind === 'connected') void this.#poll();
    else void this.#connect();
  }

  /** Reads the session at once, for example after the user disconnected it. */
  async check(): Promise<void> {
    if (this.#final) return;
    try {
      this.#update(await this.#ports.session());
    } catch (error) {
      this.#handleError(error);
    }
  }

  /** Ended, or waiting for the user. */
  get #final(): boolean {
    return !['opening', 'connected', 'reconnecting'].includes(this.state.kind);
  }

  #setState(state: ConnectionState): void {
    this.state = state;
    this.#events.state(state);
  }

  #finish(state: ConnectionState): void {
    if (this.#final) return;
    this.#cancel?.();
    this.#setState(state);
    (this.protocol ?? this.#pending)?.close();
    this.protocol = null;
    this.#pending = null;
  }

  /** Processes a session that was read. False when it has ended. */
  #update(session: Session): boolean {
    this.#unanswered = 0;
    this.#events.session(session);
    if (session.status === 'active' || session.status === 'creating') return true;
    this.#finish({ kind: 'ended', reason: session.end_reason ?? '' });
    return false;
  }

  /** True when the error is final; anything else is retried. */
  #handleError(error: unknown): boolean {
    if (!(error instanceof ApiError)) return false;
    if (error.status === 401) this.#finish({ kind: 'signed_out' });
    else if (error.status === 404 || error.status === 422 || error.status === 400) this.#finish({ kind: 'missing' });
    return this.#final;
  }

  /** Returns the session once it is active. */
  async #ready(): Promise<Session | null> {
    const session = await this.#ports.session();
    if (!this.#update(session)) return null;
    if (session.status === 'active') return session;
    this.#retry(null);
    return null;
  }

  async #connect(): Promise<void> {
    if (this.#busy || this.#final || this.#pending) return;
    this.#busy = true;
    try {
      const session = await this.#ready();
      if (!session) return;
      // Loaded before the ticket, which expires during a slow download.
      const open = await this.#ports.protocol(session);
      const ticket = await this.#ports.ticket();
      if (this.#final) return;
      this.#open(open, this.#ports.streamUrl(ticket, session));
    } catch (error) {
      if (!this.#handleError(error)) this.#retry(error instanceof ApiError && error.offline ? { leg: 'gateway', text: '' } : null);
    } finally {
      this.#busy = false;
    }
  }

  #open(open: OpenProtocol, url: string): void {
    let mine: Protocol | null = null;
    const current = () => mine !== null && (mine === this.protocol || mine === this.#pending);
    mine = open(url, {
      connected: () => {
        if (!current() || this.#final) return;
        this.protocol = mine;
        this.#pending = null;
        this.#attempt = 0;
        this.#unanswered = 0;
        this.#setState({ kind: 'connected', since: this.#ports.now() });
        this.#pollAfter(POLL_MS);
        // Measures latency at once instead of after the first interval.
        void this.#poll();
      },
      closed: (how) => {
        if (!current()) return;
        this.#closed(how);
      },
      clipboard: (text) => {
        if (mine === this.protocol) this.#events.clipboard(text);
      },
      clipboardLost: () => {
        if (mine === this.protocol) this.#events.clipboardLost();
      },
      pinched: (sizing) => {
        if (mine === this.protocol) this.#events.pinched(sizing);
      },
      lost: (text) => {
        if (mine === this.protocol) this.#events.lost(text);
      },
      reloadLoop: () => {
        if (mine === this.protocol) this.#events.reloadLoop();
      },
    });
    this.#pending = mine;
  }

  #closed({ code, reason, lastFrame, cause }: Closed): void {
    this.protocol = null;
    this.#pending = null;
    if (this.#final) return;
    switch (code) {
      case CLOSE.ended:
        this.#finish({ kind: 'ended', reason });
        // The state changes at once; the end time follows.
        void this.#ports.session().then((session) => this.#events.session(session), () => {});
        return;
      case CLOSE.signedOut:
        return this.#finish({ kind: 'signed_out' });
      case CLOSE.tooManyViewers:
        return this.#finish({ kind: 'too_many_viewers' });
      case CLOSE.certificateChanged:
        return this.#finish({ kind: 'certificate' });
      case CLOSE.credentialRequired:
        // Without a stored credential of the workspace an administrator has to act, too.
        return this.#finish(credentialState(reason, false));
      case CLOSE.credentialRefused:
        return this.#finish(credentialState(reason, true));
      case CLOSE.policy:
        return this.#finish({ kind: 'forbidden', why: reason });
      case CLOSE.desktopClosed:
        return this.#finish({ kind: 'desktop_closed', why: reason });
      case CLOSE.idle:
        return this.#finish({ kind: 'idle' });
      case CLOSE.cookieBlocked:
        return this.#finish({ kind: 'frame_blocked', why: 'cookie' });
      case CLOSE.originUnreachable:
        return this.#finish({ kind: 'frame_blocked', why: 'origin' });
      default:
        if (cause === 'desktop_closed') return this.#finish({ kind: 'desktop_closed', why: '' });
        if (lastFrame) this.#events.lastFrame(lastFrame);
        // A resize reconnects without backoff.
        if (cause === 'resize') this.#attempt = 0;
        this.#retry(failureOf(code, reason), cause === 'resize');
    }
  }

  #retry(failure: HopFailure | null, immediately = false): void {
    if (this.#final) return;
    const { kind } = this.state;
    if (kind === 'opening' || kind === 'reconnecting') this.#setState({ ...this.state, failure } as ConnectionState);
    else this.#setState({ kind: 'reconnecting', since: this.#ports.now(), failure });
    this.#cancel?.();
    this.#cancel = this.#ports.later(immediately ? 0 : backoff(this.#attempt++, this.#ports.random()), () => void this.#connect());
  }

  #pollAfter(ms: number): void {
    this.#cancel?.();
    this.#cancel = this.#ports.later(ms, () => void this.#poll());
  }

  async #poll(): Promise<void> {
    const { protocol } = this;
    if (!protocol) return;
    try {
      const session = await this.#ports.session();
      if (this.protocol !== protocol || !this.#update(session)) return;
    } catch (error) {
      if (this.protocol !== protocol || this.#handleError(error)) return;
      if (error instanceof ApiError && error.offline) this.#unanswered += 1;
      if (this.#unanswered >= MAX_UNANSWERED_POLLS) {
        // On a dead network a socket stays open for minutes. Its close event brings the last frame and the retry.
        protocol.close();
        return;
      }
    }
    this.#pollAfter(this.#unanswered > 0 ? SUSPECT_POLL_MS : POLL_MS);
  }
}
