/**
 * What the viewer asks of a remote-screen protocol, and nothing about any particular one: `novnc.ts` speaks RFB,
 * `rdp/ironrdp.ts` RDP, and `html5/frame.ts` shows a web application. Each is loaded only for the workspaces that need it.
 *
 * One `Protocol` object is one connection: it opens once, closes once, and a reconnect makes a new one.
 */

/** Close codes of the gateway's stream (4000 and up are the gateway's own words). */
export const CLOSE = {
  ended: 4000,
  signedOut: 4001,
  unreachable: 4002,
  tooManyViewers: 4003,
  certificateChanged: 4004,
  credentialRequired: 4005,
  credentialRefused: 4006,
  policy: 4007,
  desktopLeft: 4008,
  /** Words of this page alone: an application nobody used was closed; its cookie is not kept; nothing leads to its origin. */
  idle: 4100,
  notKept: 4101,
  notShown: 4102,
} as const;

export interface Closed {
  /** WebSocket close code; 0 when the protocol gave up before the socket did. */
  code: number;
  reason: string;
  /** The screen as it was last seen, still painted, free to be placed elsewhere. Null when nothing was ever shown. */
  lastPicture: HTMLCanvasElement | null;
  /**
   * Why the protocol itself ended it. `left`: the desktop said goodbye (signed out there, taken over by another
   * connection); coming back by itself would fight with whoever did that. `resize`: to come back at once in another size.
   */
  because?: 'left' | 'resize';
}

export interface ProtocolEvents {
  /** The handshake is done; pictures follow. */
  connected(): void;
  closed(how: Closed): void;
  /** The remote side has put text on its clipboard. */
  clipboard(text: string): void;
  /** Two fingers went apart (`actual`) or together (`fit`). */
  pinched(sizing: Sizing): void;
  /** An application loads itself again and again: it may not work inside this page. */
  restless(): void;
}

/** `fit` scales the picture to the window; `remote` asks the desktop to take the window's size; `actual` shows a part, to be moved about. */
export type Sizing = 'fit' | 'remote' | 'actual';

/** `auto` follows the measured bandwidth. */
export type Quality = 'auto' | 'sharp' | 'light';

/** `position`: the key that was pressed, whatever stands on it (the desktop's own layout decides). `character`: the character that this computer made of it. */
export type KeyboardMode = 'position' | 'character';

/** What a protocol can do. What it cannot is not shown. */
export interface Capabilities {
  /** Text from here into the desktop, and out of it. */
  clipboardIn: boolean;
  clipboardOut: boolean;
  /** A person may choose how the picture is compressed. */
  quality: boolean;
  /** A person may choose what a key means. */
  keyboardModes: boolean;
  /** Its desktops are Windows, or look like it: their keys are called so. */
  windows: boolean;
  /** A web application: it has its own keys, size and clipboard, and can be shown in a tab of its own. */
  application: boolean;
}

/** What the workspace's policy lets this stream do. The gateway enforces it; this only decides what is shown. */
export interface Allowed {
  clipboardIn: boolean;
  clipboardOut: boolean;
  input: boolean;
}

/** Choices that hold for every connection of this page, as they are when it is made. */
export interface Choices {
  sizing: Sizing;
  quality: Quality;
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
  setQuality(quality: Quality): void;
  setKeyboardMode(mode: KeyboardMode): void;
  /** Presses the keys in order, then lets them go in the opposite order. */
  sendChord(keys: readonly Key[]): void;
  sendText(text: string): void;
  setRemoteClipboard(text: string): void;
  focus(): void;
}

export type OpenProtocol = (url: string, events: ProtocolEvents) => Protocol;

/** A protocol that was loaded. `target` is where it paints. */
export interface Driver {
  capabilities: Capabilities;
  driver(target: HTMLElement, choices: () => Choices): OpenProtocol;
}

/** What a policy allows. A session without one comes from a gateway that knows no other. */
export function allowedBy(policy: { clipboard: string; read_only: boolean } | null | undefined): Allowed {
  if (!policy) return { clipboardIn: true, clipboardOut: true, input: true };
  const { clipboard, read_only } = policy;
  return {
    clipboardIn: !read_only && (clipboard === 'in' || clipboard === 'both'),
    clipboardOut: clipboard === 'out' || clipboard === 'both',
    input: !read_only,
  };
}
