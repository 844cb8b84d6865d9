/** RFB through noVNC. The socket is ours, so that the gateway's close code and reason are not lost. */
import RFB from '@novnc/novnc';
import { keysymOf } from './keys';
import type { Key, OpenProtocol, Protocol, ProtocolEvents, Sizing } from './protocol';

/** How long a socket may take from the first packet to the first picture. */
const HANDSHAKE_LIMIT_MS = 5_000;

class NoVnc implements Protocol {
  readonly #rfb: RFB;
  readonly #canvas: HTMLCanvasElement | null;
  readonly #events: ProtocolEvents;
  #connected = false;
  #closed = false;

  constructor(target: HTMLElement, url: string, sizing: Sizing, events: ProtocolEvents) {
    const socket = new WebSocket(url);
    this.#events = events;
    let code = 0;
    let reason = '';
    // Registered before noVNC's own handler, so the words are known when noVNC says "disconnect".
    socket.addEventListener('close', (event) => {
      code = event.code;
      reason = event.reason;
    });

    const rfb = new RFB(target, socket, { shared: true });
    this.#rfb = rfb;
    this.#canvas = target.querySelector('canvas');
    this.#canvas?.setAttribute('data-testid', 'viewer-screen');
    rfb.background = 'transparent';
    rfb.qualityLevel = 7;
    rfb.compressionLevel = 2;
    this.setSizing(sizing);

    const tooLong = setTimeout(() => this.close(), HANDSHAKE_LIMIT_MS);
    rfb.addEventListener('connect', () => {
      clearTimeout(tooLong);
      this.#connected = true;
      events.connected();
    });
    rfb.addEventListener('disconnect', () => {
      clearTimeout(tooLong);
      this.#over(code, reason);
    });
    rfb.addEventListener('clipboard', (event) => events.clipboard(event.detail.text));
    // The gateway has signed in to the desktop already: a server that asks us is not ours.
    rfb.addEventListener('credentialsrequired', () => this.close());
  }

  close(): void {
    if (this.#closed) return;
    this.#rfb.disconnect();
    // On a dead network the socket's own close event may take minutes; nobody has to wait for it.
    this.#over(0, '');
  }

  #over(code: number, reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#events.closed({ code, reason, lastPicture: this.#connected ? this.#canvas : null });
  }

  setSizing(sizing: Sizing): void {
    // Scaling stays on with `remote` too: it is what shows the picture until the desktop has followed, or if it cannot.
    this.#rfb.scaleViewport = sizing !== 'actual';
    this.#rfb.clipViewport = sizing === 'actual';
    this.#rfb.dragViewport = sizing === 'actual';
    this.#rfb.resizeSession = sizing === 'remote';
  }

  sendChord(keys: readonly Key[]): void {
    for (const { keysym, code } of keys) this.#rfb.sendKey(keysym, code, true);
    for (const { keysym, code } of keys.toReversed()) this.#rfb.sendKey(keysym, code, false);
  }

  sendText(text: string): void {
    for (const character of text) this.#rfb.sendKey(keysymOf(character), '');
  }

  setRemoteClipboard(text: string): void {
    this.#rfb.clipboardPasteFrom(text);
  }

  focus(): void {
    this.#rfb.focus({ preventScroll: true });
  }
}

/** Opens connections that paint into `target`, each with the sizing chosen at that moment. */
export function noVnc(target: HTMLElement, sizing: () => Sizing): OpenProtocol {
  return (url, events) => new NoVnc(target, url, sizing(), events);
}
