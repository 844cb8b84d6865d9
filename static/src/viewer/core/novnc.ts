/** RFB through noVNC. The WebSocket is created here, because noVNC does not report its close code and reason. */
import RFB from '@novnc/novnc';
import { keysymOf } from './keys';
import type { Capabilities, Choices, Key, OpenProtocol, Protocol, ProtocolEvents, Quality, Sizing } from './protocol';
import { INITIAL, LIGHT, type Level, Meter, SHARP, adjust, levelOf } from './quality';

/** Time limit of the RFB handshake. */
const HANDSHAKE_LIMIT_MS = 5_000;

/** RFB sends keysyms, and scancodes too where the server supports it (QEMU extended key event), so there is no keyboard mode. */
export const capabilities: Capabilities = { clipboardIn: true, clipboardOut: true, quality: true, keyboardModes: false, windows: false, application: false };

class NoVnc implements Protocol {
  readonly #rfb: RFB;
  readonly #canvas: HTMLCanvasElement | null;
  readonly #events: ProtocolEvents;
  readonly #meter = new Meter();
  readonly #unlisten = new AbortController();
  #control = INITIAL;
  #quality: Quality = 'auto';
  #connected = false;
  #closed = false;

  constructor(target: HTMLElement, url: string, choices: Choices, events: ProtocolEvents) {
    const socket = new WebSocket(url);
    this.#events = events;
    let code = 0;
    let reason = '';
    // Registered before noVNC's own handler, so code and reason are known when noVNC emits "disconnect".
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
      this.#finish(code, reason);
    });
    if (choices.allowed.clipboardOut) rfb.addEventListener('clipboard', (event) => events.clipboard(event.detail.text));
    // The gateway has authenticated to the desktop already, so a request for credentials is an error.
    rfb.addEventListener('credentialsrequired', () => this.close());
  }

  close(): void {
    if (this.#closed) return;
    this.#rfb.disconnect();
    // On a dead network the close event of the socket may take minutes.
    this.#finish(0, '');
  }

  #finish(code: number, reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unlisten.abort();
    this.#events.closed({ code, reason, lastFrame: this.#connected ? this.#canvas : null });
  }

  setSizing(sizing: Sizing): void {
    // Scaling stays on with `remote`, for the time until the desktop has resized, or if it cannot.
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
    this.#control = adjust(this.#control, bits);
    if (this.#control.at !== before && this.#quality === 'auto') this.#apply(levelOf(this.#control));
  }

  /** noVNC would send a pinch as Ctrl and wheel; here it changes the sizing. */
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

/** Opens connections that draw into `target`, with the settings of that moment. */
export function driver(target: HTMLElement, choices: () => Choices): OpenProtocol {
  return (url, events) => new NoVnc(target, url, choices(), events);
}
