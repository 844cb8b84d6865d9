/**
 * What the viewer asks of a remote-screen protocol, and nothing about any particular one. Today noVNC stands behind
 * it; RDP and HTML5 frames come later as further implementations.
 *
 * One `Protocol` object is one connection: it opens once, closes once, and a reconnect makes a new one.
 */

/** Close codes of the gateway's stream (4000 and up are the gateway's own words). */
export const CLOSE = {
  ended: 4000,
  signedOut: 4001,
  unreachable: 4002,
  tooManyViewers: 4003,
} as const;

export interface Closed {
  /** WebSocket close code; 0 when the protocol gave up before the socket did. */
  code: number;
  reason: string;
  /** The screen as it was last seen, still painted, free to be placed elsewhere. Null when nothing was ever shown. */
  lastPicture: HTMLCanvasElement | null;
}

export interface ProtocolEvents {
  /** The handshake is done; pictures follow. */
  connected(): void;
  closed(how: Closed): void;
  /** The remote side has put text on its clipboard. */
  clipboard(text: string): void;
}

/** `fit` scales the picture to the window; `remote` asks the desktop to take the window's size; `actual` shows a part, to be moved about. */
export type Sizing = 'fit' | 'remote' | 'actual';

/** One key of a chord: an X11 keysym and the physical key it sits on. */
export interface Key {
  keysym: number;
  code: string;
}

export interface Protocol {
  close(): void;
  setSizing(sizing: Sizing): void;
  /** Presses the keys in order, then lets them go in the opposite order. */
  sendChord(keys: readonly Key[]): void;
  sendText(text: string): void;
  setRemoteClipboard(text: string): void;
  focus(): void;
}

export type OpenProtocol = (url: string, events: ProtocolEvents) => Protocol;
