/**
 * One size for a desktop that is open in several windows: that of the window somebody works in. The others scale the picture
 * and say why; when that window closes, the size is another one's again.
 *
 * Windows of one browser tell each other by a `BroadcastChannel`; of others the number of windows is known, which the
 * session's poll brings.
 */
import { viewer as s } from '../../lib/strings';
import { h } from './dom';

/** Sent between the windows of a session: somebody works in this one; it was closed. */
type Message = 'leads' | 'left';

export interface WindowSizePorts {
  /** Lets the desktop follow this window, at once, or no longer. */
  follow(on: boolean): void;
  /** The desktop is to have this window's size, and has another one. */
  differs(): boolean;
}

export class WindowSize {
  readonly note: HTMLElement;
  readonly #ports: WindowSizePorts;
  readonly #channel: BroadcastChannel;
  #others = 0;
  #leads: boolean;

  constructor(session: string, ports: WindowSizePorts) {
    this.#ports = ports;
    this.#leads = document.hasFocus();
    this.note = h('button', { type: 'button', class: 'size-note', 'data-testid': 'size-note', hidden: true, click: () => this.lead() }, s.otherWindowSize);
    this.#channel = new BroadcastChannel(`portcullis.viewer.${session}`);
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) => {
      // Of two windows, the one that is left; of more, the one that has the focus.
      if (data === 'left') return this.#others <= 1 || document.hasFocus() ? this.lead() : undefined;
      this.#set(false);
    };
    addEventListener('focus', () => this.lead());
    addEventListener('pagehide', () => this.#channel.postMessage('left' satisfies Message));
  }

  get leads(): boolean {
    return this.#leads;
  }

  /** Somebody works in this window. */
  lead(): void {
    if (this.#leads && !this.#ports.differs()) return;
    this.#channel.postMessage('leads' satisfies Message);
    this.#set(true);
  }

  /** A stream has opened. */
  connected(): void {
    if (this.#leads || this.#others === 0) this.#channel.postMessage('leads' satisfies Message);
    this.#set(this.#leads || this.#others === 0);
  }

  /** How many other windows show the session now. */
  set others(others: number) {
    const alone = others === 0 && this.#others > 0;
    this.#others = others;
    if (alone) this.#set(true);
    this.show();
  }

  /** Updates the note after the size of the desktop or the window changed. */
  show(): void {
    this.note.hidden = this.#leads || !this.#ports.differs();
  }

  #set(leads: boolean): void {
    this.#leads = leads;
    this.#ports.follow(leads);
    this.show();
  }
}
