/**
 * The interface between the viewer and its protocols: `novnc.ts` (RFB), `rdp/ironrdp.ts` (RDP) and `html5/frame.ts` (web
 * applications). Each is loaded only when a workspace needs it.
 *
 * A `Protocol` object is one connection; a reconnect creates a new one.
 */

/** Close codes of the stream; 4000 to 4099 are sent by the gateway. */
export const CLOSE = {
  ended: 4000,
  signedOut: 4001,
  unreachable: 4002,
  tooManyViewers: 4003,
  certificateChanged: 4004,
  credentialRequired: 4005,
  credentialRefused: 4006,
  policy: 4007,
  desktopClosed: 4008,
  /** Used in this page only: application closed for inactivity; its cookie is blocked; its origin cannot be reached. */
  idle: 4100,
  cookieBlocked: 4101,
  originUnreachable: 4102,
} as const;

export interface Closed {
  /** WebSocket close code; 0 when the client closed it. */
  code: number;
  reason: string;
  /** The canvas with the last frame; null when none was drawn. */
  lastFrame: HTMLCanvasElement | null;
  /**
   * Why the client ended it. `desktop_closed`: the desktop closed the connection (signed out, taken over by another
   * connection), so it is not reopened automatically. `resize`: reconnect at once in another size.
   */
  cause?: 'desktop_closed' | 'resize';
}

export interface ProtocolEvents {
  /** The handshake is done. */
  connected(): void;
  closed(how: Closed): void;
  /** The remote clipboard has new text. */
  clipboard(text: string): void;
  /** The desktop announced text, and did not give it. */
  clipboardLost(): void;
  /** A pinch: apart is `actual`, together is `fit`. */
  pinched(sizing: Sizing): void;
  /** The desktop has no way to take this typed text. */
  lost(text: string): void;
  /** A web application keeps reloading: it may not work inside a frame. */
  reloadLoop(): void;
}

/** `fit` scales the screen to the window; `remote` resizes the desktop to the window; `actual` shows it unscaled, with panning. */
export type Sizing = 'fit' | 'remote' | 'actual';

/** Pixels of the desktop in this window: one for each CSS pixel, or for each of the screen's. */
export type Density = 'normal' | 'sharp';
export const pixelRatio = (density: Density): number => (density === 'sharp' ? Math.max(1, devicePixelRatio) : 1);

/** `auto` follows the measured bandwidth. */
export type Quality = 'auto' | 'sharp' | 'light';

/** `position` sends scancodes, interpreted by the layout of the desktop; `character` sends the characters of the local layout. */
export type KeyboardMode = 'character' | 'position';

/** What a protocol supports; controls for anything else are hidden. */
export interface Capabilities {
  /** Clipboard text into the desktop, and out of it. */
  clipboardIn: boolean;
  clipboardOut: boolean;
  /** Image quality can be chosen. */
  quality: boolean;
  /** Keyboard modes can be chosen. */
  keyboardModes: boolean;
  /** Desktops are Windows-like: modifier keys have Windows names. */
  windows: boolean;
  /** A web application: it has its own keys, size and clipboard, and can be shown in a tab of its own. */
  application: boolean;
}

/** What the stream policy of the workspace allows. The gateway enforces it; here it only decides which controls are shown. */
export interface Allowed {
  clipboardIn: boolean;
  clipboardOut: boolean;
  input: boolean;
}

/** User settings, read when a connection is opened. */
export interface Choices {
  sizing: Sizing;
  quality: Quality;
  density: Density;
  /** Whether the desktop follows this window's size; otherwise another window decides it. */
  follows: boolean;
  keyboard: KeyboardMode;
  allowed: Allowed;
}

/** One key of a chord: an X11 keysym and the physical key it sits on. */
export interface Key {
  keysym: number;
  code: string;
}

export interface Protocol {
  close(): void;
  setSizing(sizing: Sizing): void;
  /** Whether the desktop follows this window's size; from then on, and at once. */
  follow(on: boolean): void;
  setDensity(density: Density): void;
  setQuality(quality: Quality): void;
  setKeyboardMode(mode: KeyboardMode): void;
  /** Presses the keys in order and releases them in reverse order. */
  sendChord(keys: readonly Key[]): void;
  sendText(text: string): void;
  /** Longest text that the desktop takes, in bytes of UTF-8; undefined: as long as the page's own limit. */
  readonly textLimit?: number;
  /** Gives the desktop text. What is sent after the promise has resolved finds it there. */
  setRemoteClipboard(text: string): Promise<PasteResult>;
  /** A key of the keyboard. */
  key(event: KeyboardEvent, down: boolean): void;
  /** Releases what is held besides the keys of `key`. */
  releaseInput(): void;
  /** Dead keys are combined in this browser; otherwise the desktop does it. */
  composes(): boolean;
  /** Focuses a protocol that reads the keyboard itself. */
  focus?(): void;
}

export type OpenProtocol = (url: string, events: ProtocolEvents) => Protocol;

/** What became of text for the desktop's clipboard. */
export interface PasteResult {
  /** Characters that the desktop cannot take, and got a question mark for. */
  replaced: string;
  /** The desktop knows of the text, and takes it when somebody pastes there. */
  offered: boolean;
}

/** A loaded protocol module; `target` is the element it draws into. */
export interface Driver {
  capabilities: Capabilities;
  driver(target: HTMLElement, choices: () => Choices): OpenProtocol;
}

/** Maps a stream policy to capabilities; null (workspace removed) allows everything. */
export function allowedBy(policy: { clipboard: string; read_only: boolean } | null | undefined): Allowed {
  if (!policy) return { clipboardIn: true, clipboardOut: true, input: true };
  const { clipboard, read_only } = policy;
  return {
    clipboardIn: !read_only && (clipboard === 'in' || clipboard === 'both'),
    clipboardOut: clipboard === 'out' || clipboard === 'both',
    input: !read_only,
  };
}
