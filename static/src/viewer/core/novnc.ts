/** RFB through noVNC. The WebSocket is created here, because noVNC does not report its close code and reason. */
import RFB from '@novnc/novnc';
import { copyOf } from './keyboard';
import { HELD_MODIFIERS, textKeysOf } from './keys';
import { type Capabilities, type Choices, type Density, type Key, type OpenProtocol, type PasteResult, type Protocol, type ProtocolEvents, type Quality, type Sizing, pixelRatio } from './protocol';
import { INITIAL, LIGHT, type Level, Meter, SHARP, adjust, levelOf } from './quality';

/** Bits of the extended clipboard (rfbproto): text, and the announcement of some. */
const TEXT_FORMAT = 1;
const NOTIFY_ACTION = 1 << 27;
/** Time limit of the connection, and of the RFB handshake with the gateway. */
const HANDSHAKE_LIMIT_MS = 5_000;
/** The gateway greets once the desktop has let it in; a desktop may ask a person, for a minute. The gateway has limits of its own. */
const DESKTOP_LIMIT_MS = 95_000;

/**
 * TigerVNC gives each character that its keymap lacks a free keycode, and drops it when none is left. A pause after so many
 * gives the agent's `keymap.sh` time to free them.
 */
const RARE_AT_ONCE = 60;
/** Text that was requested and is not there by then does not come. */
const TEXT_LIMIT_MS = 10_000;
const RARE_PAUSE_MS = 1_500;
/** Nobody types so many different ones in this time. */
const RARE_WINDOW_MS = 10_000;
/** Keys that wait for such a pause, at most. */
const WAITING_KEYS = 20_000;

/** RFB sends keysyms, and scancodes too where the server supports it (QEMU extended key event), so there is no keyboard mode. */
export const capabilities: Capabilities = { clipboardIn: true, clipboardOut: true, quality: true, keyboardModes: false, windows: false, application: false };

/** noVNC, which asks for a size in CSS pixels, with a choice of the screen's own. */
class DenseRfb extends RFB {
  /** The text of the desktop was requested. */
  requestedText: () => void = () => {};
  density: Density = 'normal';
  requesting = false;

  /** The server announces text, and noVNC requests it; a server that cannot read the text of a program gives none. */
  override _handleServerCutText(): boolean {
    const { extendedClipboardRequest } = RFB.messages;
    RFB.messages.extendedClipboardRequest = (sock, formats) => {
      extendedClipboardRequest(sock, formats);
      this.requestedText();
    };
    try {
      return super._handleServerCutText();
    } finally {
      RFB.messages.extendedClipboardRequest = extendedClipboardRequest;
    }
  }

  override _requestRemoteResize(): void {
    this.requesting = true;
    super._requestRemoteResize();
    this.requesting = false;
  }

  /** Also where the picture is scaled to, which stays in CSS pixels. */
  override _screenSize(): { w: number; h: number } {
    const { w, h } = super._screenSize();
    const ratio = this.requesting ? pixelRatio(this.density) : 1;
    return { w: w * ratio, h: h * ratio };
  }
}

class NoVnc implements Protocol {
  readonly #rfb: DenseRfb;
  #sizing: Sizing;
  #follows: boolean;
  readonly #canvas: HTMLCanvasElement | null;
  readonly #events: ProtocolEvents;
  readonly #meter = new Meter();
  readonly #unlisten = new AbortController();
  #control = INITIAL;
  #quality: Quality = 'auto';
  #connected = false;
  /** Characters beyond Latin-1 in the present window. */
  readonly #rare = new Set<string>();
  #rareSince = 0;
  readonly #waiting: (() => void)[] = [];
  #textDue: ReturnType<typeof setTimeout> | undefined;
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

    const rfb = new DenseRfb(target, socket, { shared: true });
    this.#rfb = rfb;
    this.#sizing = choices.sizing;
    this.#follows = choices.follows;
    rfb.density = choices.density;
    this.#canvas = target.querySelector('canvas');
    this.#canvas?.setAttribute('data-testid', 'viewer-screen');
    rfb.background = 'transparent';
    // The page's own text field has the focus (`keyboard.ts`).
    rfb.focusOnClick = false;
    this.#canvas?.removeAttribute('tabindex');
    rfb.viewOnly = !choices.allowed.input;
    this.setQuality(choices.quality);
    this.setSizing(choices.sizing);
    this.#watchPinches(target);

    let tooLong: ReturnType<typeof setTimeout> | undefined;
    const within = (ms: number) => {
      clearTimeout(tooLong);
      tooLong = setTimeout(() => this.close(), ms);
    };
    within(HANDSHAKE_LIMIT_MS);
    socket.addEventListener('open', () => within(DESKTOP_LIMIT_MS), { once: true });
    socket.addEventListener('message', () => within(HANDSHAKE_LIMIT_MS), { once: true });
    rfb.addEventListener('connect', () => {
      clearTimeout(tooLong);
      this.#connected = true;
      // A stream that broke may have left them down.
      for (const { keysym, code } of HELD_MODIFIERS) rfb.sendKey(keysym, code, false);
      events.connected();
    });
    rfb.addEventListener('disconnect', () => {
      clearTimeout(tooLong);
      this.#finish(code, reason);
    });
    if (choices.allowed.clipboardOut) {
      rfb.addEventListener('clipboard', (event) => {
        clearTimeout(this.#textDue);
        events.clipboard(event.detail.text);
      });
      rfb.requestedText = () => {
        clearTimeout(this.#textDue);
        this.#textDue = setTimeout(() => !this.#closed && events.clipboardLost(), TEXT_LIMIT_MS);
      };
    }
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
    this.#sizing = sizing;
    this.#requestSize();
  }

  follow(on: boolean): void {
    this.#follows = on;
    this.#requestSize();
  }

  setDensity(density: Density): void {
    this.#rfb.density = density;
    this.#requestSize();
  }

  /** noVNC requests it when this is set, if the desktop has another one. */
  #requestSize(): void {
    this.#rfb.resizeSession = false;
    this.#rfb.resizeSession = this.#sizing === 'remote' && this.#follows && !this.#rfb.viewOnly;
  }

  setQuality(quality: Quality): void {
    this.#quality = quality;
    this.#apply(quality === 'sharp' ? SHARP : quality === 'light' ? LIGHT : levelOf(this.#control));
  }

  setKeyboardMode(): void {}

  sendChord(keys: readonly Key[]): void {
    this.#inOrder(() => {
      this.#press(keys);
    });
  }

  sendText(text: string): void {
    for (const character of text.replaceAll('\r\n', '\n').normalize('NFC')) this.#inOrder(() => this.#type(character));
  }

  #press(keys: readonly Key[]): void {
    for (const { keysym, code } of keys) this.#rfb.sendKey(keysym, code, true);
    for (const { keysym, code } of keys.toReversed()) this.#rfb.sendKey(keysym, code, false);
  }

  #type(character: string): void {
    const now = performance.now();
    if (now - this.#rareSince > RARE_WINDOW_MS) {
      this.#rare.clear();
      this.#rareSince = now;
    }
    if (character > '\u00ff') this.#rare.add(character);
    this.#press(textKeysOf(character));
  }

  /** Runs what sends a key, after those before it. */
  #inOrder(send: () => void): void {
    if (this.#waiting.length === 0 && this.#rare.size < RARE_AT_ONCE) return send();
    // More than this at once is no person's typing.
    if (this.#waiting.length >= WAITING_KEYS) return;
    this.#waiting.push(send);
    if (this.#waiting.length === 1) this.#resume();
  }

  #resume(): void {
    setTimeout(() => {
      this.#rare.clear();
      const waiting = this.#waiting.splice(0);
      for (const send of this.#closed ? [] : waiting) this.#inOrder(send);
    }, RARE_PAUSE_MS);
  }

  /** The server reads the announcement before the keys that follow it. */
  async setRemoteClipboard(text: string): Promise<PasteResult> {
    const rfb = this.#rfb;
    if (this.#closed) throw new Error('The stream is closed');
    // As noVNC decides it (`clipboardPasteFrom`): without the extended clipboard, text is ISO 8859-1.
    const extended = Boolean(rfb._clipboardServerCapabilitiesFormats?.[TEXT_FORMAT] && rfb._clipboardServerCapabilitiesActions?.[NOTIFY_ACTION]);
    rfb.clipboardPasteFrom(text);
    const replaced = extended ? '' : [...new Set(text)].filter((character) => character > '\u00ff').join(' ');
    return { replaced, offered: extended };
  }

  key(event: KeyboardEvent): void {
    // noVNC's own keyboard handler translates it.
    const copy = copyOf(event);
    this.#inOrder(() => this.#canvas?.dispatchEvent(copy));
  }

  releaseInput(): void {}

  composes(): boolean {
    return true;
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
