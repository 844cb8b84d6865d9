/** RFB through noVNC. The socket is ours, so that the gateway's close code and reason are not lost. */
import RFB from '@novnc/novnc';
import { keysymOf } from './keys';
import type { Capabilities, Choices, Key, OpenProtocol, Protocol, ProtocolEvents, Quality, Sizing } from './protocol';
import { FIRST, LIGHT, type Level, Meter, SHARP, follow, levelOf } from './quality';

/** How long a socket may take from the first packet to the first picture. */
const HANDSHAKE_LIMIT_MS = 5_000;

/** RFB sends what a key means, and the key itself too where the server wants it (QEMU's extension): there is nothing to choose. */
export const capabilities: Capabilities = { clipboardIn: true, clipboardOut: true, quality: true, keyboardModes: false, windows: false, application: false };

class NoVnc implements Protocol {
  readonly #rfb: RFB;
  readonly #canvas: HTMLCanvasElement | null;
  readonly #events: ProtocolEvents;
  readonly #meter = new Meter();
  readonly #unlisten = new AbortController();
  #control = FIRST;
  #quality: Quality = 'auto';
  #connected = false;
  #closed = false;

  constructor(target: HTMLElement, url: string, choices: Choices, events: ProtocolEvents) {
    const socket = new WebSocket(url);
    this.#events = events;
    let code = 0;
    let reason = '';
    // Registered before noVNC's own handler, so the words are known when noVNC says "disconnect".
    socket.addEventListener('close', (event) => {
      code = event.code;
      reason = event.reason;
    });
    socket.addEventListener('message', ({ data }) => this.#measure((data as ArrayBuffer).byteLength));

    const rfb = new RFB(target, socket, { shared: true });
    this.#rfb = rfb;
    this.#canvas = target.querySelector('canvas');
    this.#canvas?.setAttribute('data-testid', 'viewer-screen');
    rfb.background = 'transparent';
    rfb.viewOnly = !choices.allowed.input;
    this.setQuality(choices.quality);
    this.setSizing(choices.sizing);
    this.#watchPinches(target);

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
    if (choices.allowed.clipboardOut) rfb.addEventListener('clipboard', (event) => events.clipboard(event.detail.text));
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
    this.#unlisten.abort();
    this.#events.closed({ code, reason, lastPicture: this.#connected ? this.#canvas : null });
  }

  setSizing(sizing: Sizing): void {
    // Scaling stays on with `remote` too: it is what shows the picture until the desktop has followed, or if it cannot.
    this.#rfb.scaleViewport = sizing !== 'actual';
    this.#rfb.clipViewport = sizing === 'actual';
    this.#rfb.dragViewport = sizing === 'actual';
    this.#rfb.resizeSession = sizing === 'remote' && !this.#rfb.viewOnly;
  }

  setQuality(quality: Quality): void {
    this.#quality = quality;
    this.#apply(quality === 'sharp' ? SHARP : quality === 'light' ? LIGHT : levelOf(this.#control));
  }

  setKeyboardMode(): void {}

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

  #apply({ quality, compression }: Level): void {
    this.#rfb.qualityLevel = quality;
    this.#rfb.compressionLevel = compression;
  }

  #measure(bytes: number): void {
    const bits = this.#meter.add(bytes, performance.now());
    if (bits === null || !this.#connected) return;
    const before = this.#control.at;
    this.#control = follow(this.#control, bits);
    if (this.#control.at !== before && this.#quality === 'auto') this.#apply(levelOf(this.#control));
  }

  /** noVNC would send a pinch on as Ctrl and the wheel; here it changes how large the picture is shown. */
  #watchPinches(target: HTMLElement): void {
    let began = 0;
    const watch = (event: Event) => {
      const { type, magnitudeX, magnitudeY } = (event as CustomEvent<{ type: string; magnitudeX: number; magnitudeY: number }>).detail;
      if (type !== 'pinch') return;
      event.stopPropagation();
      const apart = Math.hypot(magnitudeX, magnitudeY);
      if (event.type === 'gesturestart') began = apart;
      else if (event.type === 'gestureend' && began > 0) this.#events.pinched(apart > began ? 'actual' : 'fit');
    };
    for (const name of ['gesturestart', 'gesturemove', 'gestureend']) target.addEventListener(name, watch, { capture: true, signal: this.#unlisten.signal });
  }
}

/** Opens connections that paint into `target`, each with what is chosen at that moment. */
export function driver(target: HTMLElement, choices: () => Choices): OpenProtocol {
  return (url, events) => new NoVnc(target, url, choices(), events);
}
