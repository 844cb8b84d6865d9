/**
 * RDP through IronRDP's WASM. The gateway ends TLS and signs in to the desktop, so user name and password here are
 * placeholders, and where it leads is the ticket's business: the destination only repeats the session.
 */
import { Backend, displayControl, enableCredssp, init } from '@devolutions/iron-remote-desktop-rdp';
import { CLOSE, type Capabilities, type Choices, type Closed, type Key, type KeyboardMode, type OpenProtocol, type Protocol, type ProtocolEvents, type Sizing } from '../core/protocol';
import { Input } from './input';
import { Screen, desktopSize, roomy } from './screen';
import { watchSocket } from './socket';

type Session = Awaited<ReturnType<InstanceType<typeof Backend.SessionBuilder>['connect']>>;

/** How long a connection may take to its first picture. A desktop that is signed in to for the first time takes seconds to come up; one that hangs is tried again. */
const CONNECT_LIMIT_MS = 15_000;
/** The window has come to rest when its size has not changed for this long. */
const REST_MS = 500;
/** A desktop that can follow has followed by then; one that has not is connected to anew. */
const FOLLOW_MS = 1_500;
/** A session that ends sooner than this was not ended by a person. */
const SETTLED_MS = 3_000;
/** How long a close frame may take that is to follow a refusal. */
const CLOSE_LIMIT_MS = 2_000;
const TEXT = 'text/plain';
const PLACEHOLDER = 'portcullis';

export const capabilities: Capabilities = { clipboardIn: true, clipboardOut: true, quality: false, keyboardModes: true, windows: true, application: false };

let ready: Promise<void> | undefined;
/** After a panic the module is of no use any more, and only a new page loads another. */
let broken = false;
/** Whether the desktop follows a change of size: taken to be so until it did not. */
let follows = true;
/** Whether it has a size of its own, and gave another than it was asked for when it was connected to. */
let fixed = false;

/** What an IronRDP error (or any other) says. */
function wordsOf(error: unknown): string {
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
  /** The desktop has said goodbye; only the gateway's word on it is waited for. */
  #left: Omit<Closed, 'lastPicture'> | null = null;
  #began = 0;
  #sizing: Sizing;
  #mode: KeyboardMode;
  #shared: string | null = null;
  #rest: ReturnType<typeof setTimeout> | undefined;
  #late: ReturnType<typeof setTimeout> | undefined;
  #asked: { width: number; height: number };

  constructor(target: HTMLElement, url: string, choices: Choices, events: ProtocolEvents) {
    this.#url = url;
    this.#events = events;
    this.#choices = choices;
    this.#sizing = choices.sizing;
    this.#mode = choices.keyboard;
    this.#screen = new Screen(target, () => this.#windowChanged());
    this.#screen.sizing = choices.sizing;
    this.#asked = desktopSize(choices.sizing === 'remote' ? this.#screen.room : roomy(this.#screen.room));
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
      this.#goodbye();
    } catch (error) {
      if (this.#session && !this.#closed) console.warn('The RDP session ended:', wordsOf(error));
      if (error instanceof WebAssembly.RuntimeError) broken = true;
      // Signing out on the desktop comes as an error, too (MCS Disconnect Provider Ultimatum). Anything else is worth another try.
      else if (/ultimatum/i.test(wordsOf(error))) return this.#goodbye();
      // A refusal comes in words that IronRDP reads, and right behind them the close frame with its code.
      this.#late = setTimeout(() => this.#over({ code: 0, reason: '' }), this.#socket ? CLOSE_LIMIT_MS : 0);
    } finally {
      clearTimeout(tooLong);
      this.#socket?.close();
    }
  }

  /**
   * The desktop ended it. Right after the beginning, that is one that was still busy with the connection before. Why it did, when it said so, is in
   * the gateway's close frame, which answers the one that goes out now.
   */
  #goodbye(): void {
    const lived = performance.now() - this.#began;
    this.#left = lived < SETTLED_MS ? { code: 0, reason: '' } : { code: 0, reason: '', because: 'left' };
    this.#late = setTimeout(() => this.#left && this.#over(this.#left), this.#socket ? CLOSE_LIMIT_MS : 0);
  }

  #connect(): Promise<Session> {
    const { allowed } = this.#choices;
    const { width, height } = this.#asked;
    const { pathname } = new URL(this.#url);
    watchSocket(this.#url, (socket) => {
      this.#socket = socket;
      if (this.#closed) return socket.close();
      // IronRDP makes a close event of its own when it lets go of the socket: only the browser's tells the gateway's word.
      socket.addEventListener('close', ({ isTrusted, code, reason }) => isTrusted && this.#over(code < 4000 || code === CLOSE.unreachable ? (this.#left ?? { code, reason }) : { code, reason }));
      // IronRDP hangs up at the first word of a refusal; the close frame behind it is what says why.
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
      .extension(enableCredssp(false));
    if (allowed.clipboardIn || allowed.clipboardOut) {
      builder.forceClipboardUpdateCallback(() => this.#give(this.#shared)).remoteClipboardChangedCallback((data: InstanceType<typeof Backend.ClipboardData>) => this.#take(data));
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
    fixed = !this.#fits(this.#asked);
    size.free();
    this.#screen.place();
    if (this.#choices.allowed.input) {
      const { canvas } = this.#screen;
      this.#input = new Input({ module: Backend, session, canvas, pan: (dx, dy) => this.#screen.pan(dx, dy), pinched: (sizing) => this.#events.pinched(sizing) });
      this.#input.mode = this.#mode;
    }
    this.#events.connected();
    // The window may have changed while the desktop came up.
    this.#windowChanged();
  }

  #cursor(kind: string, data?: string, x = 0, y = 0): void {
    const { style } = this.#screen.canvas;
    if (kind === 'hidden') style.cursor = 'none';
    else if (kind === 'url' && data) style.cursor = `url(${data}) ${Math.round(x)} ${Math.round(y)}, default`;
    else style.cursor = 'default';
  }

  #take(data: InstanceType<typeof Backend.ClipboardData>): void {
    if (!this.#choices.allowed.clipboardOut) return;
    for (const item of data.items()) {
      const value: unknown = item.value();
      if (item.mimeType() !== TEXT || typeof value !== 'string') continue;
      this.#shared = value;
      this.#events.clipboard(value);
      return;
    }
  }

  #give(text: string | null): void {
    const data = new Backend.ClipboardData();
    if (text !== null && this.#choices.allowed.clipboardIn) data.addText(TEXT, text);
    // Refused only when the channel is not there (yet): then it asks for the text once it is.
    this.#session?.onClipboardPaste(data).catch(() => {});
  }

  /** The window has another size: with "remote", the desktop is to follow once the window rests. */
  #windowChanged(): void {
    clearTimeout(this.#rest);
    if (this.#sizing !== 'remote' || !this.#session || !this.#choices.allowed.input) return;
    this.#rest = setTimeout(() => this.#followWindow(), REST_MS);
  }

  #followWindow(): void {
    const { width, height } = desktopSize(this.#screen.room);
    if (this.#closed || (width === this.#asked.width && height === this.#asked.height)) return;
    this.#asked = { width, height };
    if (follows) this.#session?.resize(width, height);
    else if (!fixed) return this.#again();
    this.#rest = setTimeout(() => {
      if (this.#closed || this.#fits({ width, height })) return;
      follows = false;
      if (!fixed) this.#again();
    }, FOLLOW_MS);
  }

  /** The server has no channel for another size: the same desktop is connected to anew, in it. */
  #again(): void {
    this.#end({ code: 0, reason: '', because: 'resize' });
  }

  #fits({ width, height }: { width: number; height: number }): boolean {
    const { canvas } = this.#screen;
    return canvas.width === width && canvas.height === height;
  }

  close(): void {
    this.#end({ code: 0, reason: '' });
  }

  #end(how: Omit<Closed, 'lastPicture'>): void {
    this.#over(how);
    // A session says goodbye before its socket closes (see `#run`); without one there is only the socket.
    if (!this.#session) return this.#socket?.close();
    try {
      this.#session.shutdown();
    } catch {
      // It has ended by itself meanwhile.
    }
  }

  #over(how: Omit<Closed, 'lastPicture'>): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#rest);
    clearTimeout(this.#late);
    this.#screen.end();
    this.#input?.end();
    const { canvas } = this.#screen;
    canvas.remove();
    this.#events.closed({ ...how, lastPicture: this.#shown ? canvas : null });
  }

  setSizing(sizing: Sizing): void {
    this.#sizing = sizing;
    this.#screen.sizing = sizing;
    this.#windowChanged();
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

  setRemoteClipboard(text: string): void {
    this.#shared = text;
    this.#give(text);
  }

  focus(): void {
    this.#screen.canvas.focus({ preventScroll: true });
  }
}

/** Opens connections that paint into `target`, each with what is chosen at that moment. */
export function driver(target: HTMLElement, choices: () => Choices): OpenProtocol {
  return (url, events) => {
    if (broken) location.reload();
    return new IronRdp(target, url, choices(), events);
  };
}
