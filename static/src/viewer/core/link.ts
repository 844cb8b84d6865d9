/**
 * The viewer's connection to one session, from opening to its end: asks the gateway how the session is, gets a
 * ticket, opens the stream, and does it again when the stream breaks, until the session is over.
 *
 * It knows no DOM and no clock of its own, so its tests are plain.
 */
import { ApiError } from '../../api/http';
import type { Session, Ticket } from '../../api/types';
import { backoff } from './backoff';
import { type Trouble, troubleOf } from './legs';
import { CLOSE, type Closed, type OpenProtocol, type Protocol, type Sizing } from './protocol';

/** Whose password it is: kept for the workspace, kept for this person, or asked for each time. */
export type CredentialSource = 'workspace' | 'user' | 'ask';

export type LinkState =
  /** Never been connected yet. */
  | { kind: 'opening'; since: number; trouble: Trouble | null }
  | { kind: 'connected'; since: number }
  /** Was connected, is trying to be again. `since` is when the picture stopped. */
  | { kind: 'reconnecting'; since: number; trouble: Trouble | null }
  /** Waits for a person to say who they are to the desktop; goes on with `start`. `refused`: what was given did not fit, and `why`, in a word of the gateway's. */
  | { kind: 'credential'; source: 'user' | 'ask'; refused: boolean; why: string }
  /** The rest are final (a person may start over by reloading). */
  | { kind: 'ended'; reason: string }
  | { kind: 'signed_out' }
  | { kind: 'missing' }
  | { kind: 'crowded' }
  /** The desktop shows another certificate than the one that is trusted. */
  | { kind: 'certificate' }
  /** The desktop does not take the password that an administrator has stored; `why` in a word of the gateway's, empty when none is stored. */
  | { kind: 'refused'; why: string }
  /** Policy forbids what the stream did; `redirected`: its server leads to another one. */
  | { kind: 'forbidden'; why: string }
  /** The desktop itself ended the connection, and may have said why. */
  | { kind: 'left'; why: string }
  /** An application was closed, since nobody used it. */
  | { kind: 'idle' }
  /** This browser does not show the application in a frame: it keeps no cookie there (`cookie`), or does not get there (`way`). */
  | { kind: 'frameless'; why: 'cookie' | 'way' };

export interface LinkPorts {
  session(): Promise<Session>;
  ticket(): Promise<Ticket>;
  /** The protocol that this session speaks, loaded. */
  protocol(session: Session): Promise<OpenProtocol>;
  streamUrl(ticket: Ticket, session: Session): string;
  now(): number;
  random(): number;
  /** Runs `act` after `ms`; the answer cancels it. */
  later(ms: number, act: () => void): () => void;
}

export interface LinkEvents {
  state(state: LinkState): void;
  /** Fresh facts about the session (latency, times). */
  session(session: Session): void;
  /** The last picture of a broken stream. */
  picture(canvas: HTMLCanvasElement): void;
  clipboard(text: string): void;
  pinched(sizing: Sizing): void;
  restless(): void;
}

const POLL_MS = 5_000;
/** After a poll without answer, the next one follows sooner. */
const SUSPECT_POLL_MS = 1_000;
/** So many polls in a row without an answer mean that the stream is dead too, whatever the socket believes. */
const POLLS_TO_DOUBT = 2;

/** What the gateway says of a credential: where it came from, and in a second word why it was refused. */
function credentialState(reason: string, refused: boolean): Extract<LinkState, { kind: 'credential' | 'refused' }> {
  const [source, why = ''] = reason.split(' ');
  if (source === 'workspace') return { kind: 'refused', why };
  return { kind: 'credential', source: source === 'user' ? 'user' : 'ask', refused, why };
}

export class Link {
  state: LinkState;
  /** The open stream, for keys and clipboard; null while there is none. */
  protocol: Protocol | null = null;

  readonly #ports: LinkPorts;
  readonly #events: LinkEvents;
  #attempt = 0;
  #busy = false;
  #cancel: (() => void) | null = null;
  #silent = 0;
  #knocking: Protocol | null = null;

  constructor(ports: LinkPorts, events: LinkEvents) {
    this.#ports = ports;
    this.#events = events;
    this.state = { kind: 'opening', since: ports.now(), trouble: null };
  }

  start(): void {
    if (this.state.kind === 'credential') this.state = { kind: 'opening', since: this.#ports.now(), trouble: null };
    this.#events.state(this.state);
    void this.#connect();
  }

  /** The network may be back (online, tab shown again): try now rather than at the end of the pause. */
  nudge(): void {
    if (this.#final || this.#busy || this.#knocking) return;
    this.#cancel?.();
    if (this.state.kind === 'connected') void this.#poll();
    else void this.#connect();
  }

  /** Looks again at once, for example after the person asked for the end. */
  async check(): Promise<void> {
    if (this.#final) return;
    try {
      this.#learn(await this.#ports.session());
    } catch (error) {
      this.#fate(error);
    }
  }

  /** No attempt is due: it is over, or waits for a person. */
  get #final(): boolean {
    return !['opening', 'connected', 'reconnecting'].includes(this.state.kind);
  }

  #become(state: LinkState): void {
    this.state = state;
    this.#events.state(state);
  }

  #finish(state: LinkState): void {
    if (this.#final) return;
    this.#cancel?.();
    this.#become(state);
    (this.protocol ?? this.#knocking)?.close();
    this.protocol = null;
    this.#knocking = null;
  }

  /** Takes in fresh facts. False when they say that it is over. */
  #learn(session: Session): boolean {
    this.#silent = 0;
    this.#events.session(session);
    if (session.status === 'active' || session.status === 'creating') return true;
    this.#finish({ kind: 'ended', reason: session.end_reason ?? '' });
    return false;
  }

  /** True when the error decides the matter; anything else is worth another try. */
  #fate(error: unknown): boolean {
    if (!(error instanceof ApiError)) return false;
    if (error.status === 401) this.#finish({ kind: 'signed_out' });
    else if (error.status === 404 || error.status === 422 || error.status === 400) this.#finish({ kind: 'missing' });
    return this.#final;
  }

  /** The desktop is there, not merely on its way. */
  async #ready(): Promise<Session | null> {
    const session = await this.#ports.session();
    if (!this.#learn(session)) return null;
    if (session.status === 'active') return session;
    this.#retry(null);
    return null;
  }

  async #connect(): Promise<void> {
    if (this.#busy || this.#final || this.#knocking) return;
    this.#busy = true;
    try {
      const session = await this.#ready();
      if (!session) return;
      // Before the ticket, which does not live long enough for a slow download.
      const open = await this.#ports.protocol(session);
      const ticket = await this.#ports.ticket();
      if (this.#final) return;
      this.#open(open, this.#ports.streamUrl(ticket, session));
    } catch (error) {
      if (!this.#fate(error)) this.#retry(error instanceof ApiError && error.offline ? { leg: 'gateway', text: '' } : null);
    } finally {
      this.#busy = false;
    }
  }

  #open(open: OpenProtocol, url: string): void {
    let mine: Protocol | null = null;
    const current = () => mine !== null && (mine === this.protocol || mine === this.#knocking);
    mine = open(url, {
      connected: () => {
        if (!current() || this.#final) return;
        this.protocol = mine;
        this.#knocking = null;
        this.#attempt = 0;
        this.#silent = 0;
        this.#become({ kind: 'connected', since: this.#ports.now() });
        this.#pollAfter(POLL_MS);
        // The first measurement is interesting right away, not in five seconds.
        void this.#poll();
      },
      closed: (how) => {
        if (!current()) return;
        this.#closed(how);
      },
      clipboard: (text) => {
        if (mine === this.protocol) this.#events.clipboard(text);
      },
      pinched: (sizing) => {
        if (mine === this.protocol) this.#events.pinched(sizing);
      },
      restless: () => {
        if (mine === this.protocol) this.#events.restless();
      },
    });
    this.#knocking = mine;
  }

  #closed({ code, reason, lastPicture, because }: Closed): void {
    this.protocol = null;
    this.#knocking = null;
    if (this.#final) return;
    switch (code) {
      case CLOSE.ended:
        this.#finish({ kind: 'ended', reason });
        // The page is told at once; the times follow.
        void this.#ports.session().then((session) => this.#events.session(session), () => {});
        return;
      case CLOSE.signedOut:
        return this.#finish({ kind: 'signed_out' });
      case CLOSE.tooManyViewers:
        return this.#finish({ kind: 'crowded' });
      case CLOSE.certificateChanged:
        return this.#finish({ kind: 'certificate' });
      case CLOSE.credentialRequired:
        // Nothing is stored for the workspace: an administrator has to mend that, too.
        return this.#finish(credentialState(reason, false));
      case CLOSE.credentialRefused:
        return this.#finish(credentialState(reason, true));
      case CLOSE.policy:
        return this.#finish({ kind: 'forbidden', why: reason });
      case CLOSE.desktopLeft:
        return this.#finish({ kind: 'left', why: reason });
      case CLOSE.idle:
        return this.#finish({ kind: 'idle' });
      case CLOSE.notKept:
        return this.#finish({ kind: 'frameless', why: 'cookie' });
      case CLOSE.notShown:
        return this.#finish({ kind: 'frameless', why: 'way' });
      default:
        if (because === 'left') return this.#finish({ kind: 'left', why: '' });
        if (lastPicture) this.#events.picture(lastPicture);
        // A change of size was wanted: there is nothing to wait for.
        if (because === 'resize') this.#attempt = 0;
        this.#retry(troubleOf(code, reason), because === 'resize');
    }
  }

  #retry(trouble: Trouble | null, atOnce = false): void {
    if (this.#final) return;
    const { kind } = this.state;
    if (kind === 'opening' || kind === 'reconnecting') this.#become({ ...this.state, trouble } as LinkState);
    else this.#become({ kind: 'reconnecting', since: this.#ports.now(), trouble });
    this.#cancel?.();
    this.#cancel = this.#ports.later(atOnce ? 0 : backoff(this.#attempt++, this.#ports.random()), () => void this.#connect());
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
      if (this.protocol !== protocol || !this.#learn(session)) return;
    } catch (error) {
      if (this.protocol !== protocol || this.#fate(error)) return;
      if (error instanceof ApiError && error.offline) this.#silent += 1;
      if (this.#silent >= POLLS_TO_DOUBT) {
        // A dead network keeps a socket "open" for minutes. Its close event brings the picture and the retry.
        protocol.close();
        return;
      }
    }
    this.#pollAfter(this.#silent > 0 ? SUSPECT_POLL_MS : POLL_MS);
  }
}
