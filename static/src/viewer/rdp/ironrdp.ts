/**
 * RDP through IronRDP's WASM. The gateway terminates TLS and signs in to the desktop, so user name and password here are
 * placeholders. The ticket decides the target; the destination only repeats the session id.
 */
import { Backend, displayControl, enableCredssp, init, outboundMessageSizeLimit } from '@devolutions/iron-remote-desktop-rdp';
import { CLOSE, type Capabilities, type Choices, type Closed, type Density, type Key, type KeyboardMode, type OpenProtocol, type PasteResult, type Protocol, type ProtocolEvents, type Sizing, pixelRatio } from '../core/protocol';
import { Input } from './input';
import { Screen, desktopSize, minimumDesktop } from './screen';
import { type ServerInput, serverInputOf } from './server-input';
import { watchSocket } from './socket';

type Session = Awaited<ReturnType<InstanceType<typeof Backend.SessionBuilder>['connect']>>;

/** Time limit from connect to the first frame. The first sign-in to a desktop takes seconds; one that exceeds this is retried. */
const CONNECT_LIMIT_MS = 15_000;
/** A window size counts as final when it has not changed for this long. */
const RESIZE_SETTLE_MS = 500;
/** A server that has not resized by then is reconnected to in the new size. */
const RESIZE_LIMIT_MS = 1_500;
/** A session that ends sooner was not ended by its user. */
const SETTLED_MS = 3_000;
/** How long to wait for the close frame that follows a refusal. */
const CLOSE_LIMIT_MS = 2_000;
/** Servers handle the clipboard in a process of its own: a key sent right after an announcement may arrive before it. */
const CLIPBOARD_SETTLE_MS = 150;
/** Frames to the gateway, which accepts 1 MiB. */
const MAX_FRAME = 256 * 1024;
const TEXT = 'text/plain';
const PLACEHOLDER = 'portcullis';

export const capabilities: Capabilities = { clipboardIn: true, clipboardOut: true, quality: false, keyboardModes: true, windows: true, application: false };

let ready: Promise<void> | undefined;
/** After a panic the WASM module is unusable; only a page load creates another. */
let broken = false;
/** Whether the server honours resize requests; assumed until one was ignored. */
let supportsResize = true;
/** The server ignored the size requested at connect. */
let fixedSize = false;

/** The message of an IronRDP error, or of any other. */
function errorText(error: unknown): string {
  const backtrace = (error as { backtrace?: () => string } | null)?.backtrace;
  return typeof backtrace === 'function' ? backtrace.call(error) : String(error);
}

class IronRdp implements Protocol {
  readonly #screen: Screen;
  readonly #url: string;
  readonly #events: ProtocolEvents;
  readonly #choices: Choices;
  #session: Session | null = null;
  #input: Input | null = null;
  #socket: WebSocket | null = null;
  #closed = false;
  #shown = false;
  /** The desktop closed the connection; the close frame of the gateway is still expected. */
  #pendingClose: Omit<Closed, 'lastFrame'> | null = null;
  #began = 0;
  #sizing: Sizing;
  #mode: KeyboardMode;
  #density: Density;
  #follows: boolean;
  #serverInput: ServerInput = 'unicode';
  #clipboardText: string | null = null;
  /** The server opened the clipboard channel (Monitor Ready, MS-RDPECLIP 1.3.2.1). IronRDP would send before, and a server without a clipboard ends the connection for it. */
  #clipboardOpen = false;
  #resizeTimer: ReturnType<typeof setTimeout> | undefined;
  #closeTimer: ReturnType<typeof setTimeout> | undefined;
  #requestedSize: { width: number; height: number };

  constructor(target: HTMLElement, url: string, choices: Choices, events: ProtocolEvents) {
    this.#url = url;
    this.#events = events;
    this.#choices = choices;
    this.#sizing = choices.sizing;
    this.#mode = choices.keyboard;
    this.#screen = new Screen(target, () => this.#windowChanged());
    this.#screen.sizing = choices.sizing;
    this.#density = choices.density;
    this.#follows = choices.follows;
    this.#requestedSize = choices.sizing === 'remote' ? this.#windowSize : desktopSize(minimumDesktop(this.#screen.viewport));
    void this.#run();
  }

  async #run(): Promise<void> {
    const tooLong = setTimeout(() => this.close(), CONNECT_LIMIT_MS);
    try {
      await (ready ??= init('ERROR'));
      if (this.#closed) return;
      const session = await this.#connect();
      clearTimeout(tooLong);
      if (this.#closed) return session.shutdown();
      this.#begin(session);
      const end = await session.run();
      end.free();
      this.#desktopClosed();
    } catch (error) {
      if (this.#session && !this.#closed) console.warn('The RDP session ended:', errorText(error));
      if (error instanceof WebAssembly.RuntimeError) broken = true;
      // Signing out on the desktop is reported as an error, too (MCS Disconnect Provider Ultimatum). Anything else is retried.
      else if (/ultimatum/i.test(errorText(error))) return this.#desktopClosed();
      // A refusal is an RDCleanPath message that IronRDP reads, followed by the close frame with its code.
      this.#closeTimer = setTimeout(() => this.#finish({ code: 0, reason: '' }), this.#socket ? CLOSE_LIMIT_MS : 0);
    } finally {
      clearTimeout(tooLong);
      this.#socket?.close();
    }
  }

  /**
   * The desktop closed the connection. When it happens right after the connect, the desktop was still busy with the
   * previous connection. The reason, if it gave one, is in the close frame of the gateway.
   */
  #desktopClosed(): void {
    const lived = performance.now() - this.#began;
    this.#pendingClose = lived < SETTLED_MS ? { code: 0, reason: '' } : { code: 0, reason: '', cause: 'desktop_closed' };
    this.#closeTimer = setTimeout(() => this.#pendingClose && this.#finish(this.#pendingClose), this.#socket ? CLOSE_LIMIT_MS : 0);
  }

  #connect(): Promise<Session> {
    const { allowed } = this.#choices;
    const { width, height } = this.#requestedSize;
    const { pathname } = new URL(this.#url);
    watchSocket(this.#url, (socket) => {
      this.#socket = socket;
      if (this.#closed) return socket.close();
      // IronRDP dispatches a close event of its own when it drops the socket; only the browser's (trusted) one has code and reason.
      socket.addEventListener('close', ({ isTrusted, code, reason }) => isTrusted && this.#finish(code < 4000 || code === CLOSE.unreachable ? (this.#pendingClose ?? { code, reason }) : { code, reason }));
      const read = async ({ data }: MessageEvent<Blob | ArrayBuffer>) => {
        const found = serverInputOf(new Uint8Array(data instanceof Blob ? await data.arrayBuffer() : data));
        if (!found) return;
        this.#serverInput = found;
        socket.removeEventListener('message', read);
      };
      socket.addEventListener('message', read);
      // IronRDP closes the socket when it reads a refusal; the close frame that follows has the reason.
      const close = socket.close.bind(socket);
      socket.close = () => (this.#session || this.#closed ? close() : void setTimeout(close, CLOSE_LIMIT_MS));
    });
    const { canvas } = this.#screen;
    const builder = new Backend.SessionBuilder()
      .username(PLACEHOLDER)
      .password(PLACEHOLDER)
      .serverDomain('')
      .destination(`session:${pathname.split('/')[3] ?? ''}`)
      .proxyAddress(this.#url)
      .authToken(PLACEHOLDER)
      .desktopSize(new Backend.DesktopSize(width, height))
      .renderCanvas(canvas)
      .setCursorStyleCallbackContext(null)
      .setCursorStyleCallback((kind: string, data?: string, x?: number, y?: number) => this.#cursor(kind, data, x, y))
      .extension(displayControl(true))
      .extension(enableCredssp(false))
      .extension(outboundMessageSizeLimit(MAX_FRAME));
    if (allowed.clipboardIn || allowed.clipboardOut) {
      builder.forceClipboardUpdateCallback(() => this.#openClipboard()).remoteClipboardChangedCallback((data: InstanceType<typeof Backend.ClipboardData>) => this.#receiveClipboard(data));
    }
    return builder.connect();
  }

  #begin(session: Session): void {
    this.#session = session;
    this.#began = performance.now();
    this.#shown = true;
    const size = session.desktopSize();
    this.#screen.canvas.width = size.width;
    this.#screen.canvas.height = size.height;
    fixedSize = !this.#fits(this.#requestedSize);
    size.free();
    this.#screen.place();
    if (this.#choices.allowed.input) {
      const { canvas } = this.#screen;
      this.#input = new Input({
        module: Backend,
        session,
        canvas,
        pan: (dx, dy) => this.#screen.pan(dx, dy),
        pinched: (sizing) => this.#events.pinched(sizing),
        server: () => this.#serverInput,
        layout: new URL(this.#url).searchParams.get('keyboard') ?? '',
        lost: (character) => this.#events.lost(character),
      });
      this.#input.mode = this.#mode;
    }
    this.#events.connected();
    // The window may have changed during the connect.
    this.#windowChanged();
  }

  #cursor(kind: string, data?: string, x = 0, y = 0): void {
    const { style } = this.#screen.canvas;
    if (kind === 'hidden') style.cursor = 'none';
    else if (kind === 'url' && data) style.cursor = `url(${data}) ${Math.round(x)} ${Math.round(y)}, default`;
    else style.cursor = 'default';
  }

  #receiveClipboard(data: InstanceType<typeof Backend.ClipboardData>): void {
    if (!this.#choices.allowed.clipboardOut) return;
    for (const item of data.items()) {
      const value: unknown = item.value();
      if (item.mimeType() !== TEXT || typeof value !== 'string') continue;
      this.#clipboardText = value;
      this.#events.clipboard(value);
      return;
    }
  }

  #openClipboard(): void {
    this.#clipboardOpen = true;
    this.#sendClipboard(this.#clipboardText).catch(() => {});
  }

  async #sendClipboard(text: string | null): Promise<void> {
    if (!this.#clipboardOpen) throw new Error('The desktop has not opened its clipboard');
    const data = new Backend.ClipboardData();
    if (text !== null && this.#choices.allowed.clipboardIn) data.addText(TEXT, text);
    await this.#session?.onClipboardPaste(data);
  }

  /** With sizing "remote", requests the new size once the window size is final. */
  #windowChanged(): void {
    clearTimeout(this.#resizeTimer);
    if (this.#sizing !== 'remote' || !this.#follows || !this.#session || !this.#choices.allowed.input) return;
    this.#resizeTimer = setTimeout(() => this.#followWindow(), RESIZE_SETTLE_MS);
  }

  #followWindow(): void {
    const { width, height } = this.#windowSize;
    if (this.#closed || (width === this.#requestedSize.width && height === this.#requestedSize.height)) return;
    this.#requestedSize = { width, height };
    if (supportsResize) this.#session?.resize(width, height, Math.round(pixelRatio(this.#density) * 100));
    else if (!fixedSize) return this.#reconnect();
    this.#resizeTimer = setTimeout(() => {
      if (this.#closed || this.#fits({ width, height })) return;
      supportsResize = false;
      if (!fixedSize) this.#reconnect();
    }, RESIZE_LIMIT_MS);
  }

  /** The server has no display control channel: reconnects to the same desktop in the new size. */
  #reconnect(): void {
    this.#end({ code: 0, reason: '', cause: 'resize' });
  }

  #fits({ width, height }: { width: number; height: number }): boolean {
    const { canvas } = this.#screen;
    return canvas.width === width && canvas.height === height;
  }

  close(): void {
    this.#end({ code: 0, reason: '' });
  }

  #end(how: Omit<Closed, 'lastFrame'>): void {
    if (this.#shown && !this.#closed) this.#releaseAll();
    this.#finish(how);
    // A session closes its socket itself (see `#run`); without one there is only the socket.
    if (!this.#session) return this.#socket?.close();
    try {
      this.#session.shutdown();
    } catch {
      // It has ended already.
    }
  }

  #finish(how: Omit<Closed, 'lastFrame'>): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#resizeTimer);
    clearTimeout(this.#closeTimer);
    this.#screen.end();
    this.#input?.end();
    const { canvas } = this.#screen;
    canvas.remove();
    this.#events.closed({ ...how, lastFrame: this.#shown ? canvas : null });
  }

  setSizing(sizing: Sizing): void {
    this.#sizing = sizing;
    this.#screen.sizing = sizing;
    this.#windowChanged();
  }

  follow(on: boolean): void {
    this.#follows = on;
    this.#claimSize();
  }

  setDensity(density: Density): void {
    this.#density = density;
    this.#claimSize();
  }

  /** Another window may have changed the size since it was requested. */
  #claimSize(): void {
    const { width, height } = this.#screen.canvas;
    if (this.#session) this.#requestedSize = { width, height };
    this.#windowChanged();
  }

  get #windowSize(): { width: number; height: number } {
    const { width, height } = this.#screen.viewport;
    const ratio = pixelRatio(this.#density);
    return desktopSize({ width: width * ratio, height: height * ratio });
  }

  setQuality(): void {}

  setKeyboardMode(mode: KeyboardMode): void {
    this.#mode = mode;
    if (this.#input) this.#input.mode = mode;
  }

  sendChord(keys: readonly Key[]): void {
    this.#input?.chord(keys);
  }

  sendText(text: string): void {
    this.#input?.text(text);
  }

  /** xrdp 0.9 cuts what is longer. */
  get textLimit(): number | undefined {
    return this.#serverInput === 'layout' ? 1024 * 1024 - 1 : undefined;
  }

  /** Rejected while the clipboard channel is not open; IronRDP requests the text once it is. */
  async setRemoteClipboard(text: string): Promise<PasteResult> {
    if (!this.#session || this.#closed) throw new Error('The stream is closed');
    // xrdp 0.9 gives nothing at all for text with a character beyond the basic plane.
    const taken = this.#serverInput === 'layout' ? text.replace(/[\u{10000}-\u{10ffff}]/gu, '?') : text;
    this.#clipboardText = taken;
    await this.#sendClipboard(taken);
    await new Promise((done) => setTimeout(done, CLIPBOARD_SETTLE_MS));
    const replaced = taken === text ? '' : [...new Set(text)].filter((character) => character > '\uffff' || character.length > 1).join(' ');
    return { replaced, offered: true };
  }

  key(event: KeyboardEvent, down: boolean): void {
    this.#input?.key(event, down);
  }

  releaseInput(): void {
    if (!this.#closed) this.#releaseAll();
  }

  #releaseAll(): void {
    try {
      this.#input?.release();
    } catch {
      // The session has ended already.
    }
  }

  composes(): boolean {
    return this.#mode === 'character';
  }
}

/** Opens connections that draw into `target`, with the settings of that moment. */
export function driver(target: HTMLElement, choices: () => Choices): OpenProtocol {
  return (url, events) => {
    if (broken) location.reload();
    return new IronRdp(target, url, choices(), events);
  };
}
