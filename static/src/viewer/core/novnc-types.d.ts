/** The part of noVNC that we use; the package ships no types. */
declare module '@novnc/novnc' {
  interface RfbEvents {
    connect: CustomEvent<Record<string, never>>;
    disconnect: CustomEvent<{ clean: boolean }>;
    clipboard: CustomEvent<{ text: string }>;
    credentialsrequired: CustomEvent<{ types: string[] }>;
  }
  export default class RFB extends EventTarget {
    constructor(target: HTMLElement, channel: WebSocket | string, options?: { shared?: boolean });
    scaleViewport: boolean;
    clipViewport: boolean;
    dragViewport: boolean;
    resizeSession: boolean;
    viewOnly: boolean;
    focusOnClick: boolean;
    background: string;
    qualityLevel: number;
    compressionLevel: number;
    /** What the server announced, by bit. Private to noVNC, which has no other way to tell. */
    readonly _clipboardServerCapabilitiesFormats?: Readonly<Record<number, boolean>>;
    readonly _clipboardServerCapabilitiesActions?: Readonly<Record<number, boolean>>;
    /** Private to noVNC, which knows no other pixels than those of CSS. */
    _handleServerCutText(): boolean;
    static messages: { extendedClipboardRequest(sock: unknown, formats: readonly number[]): void };
    _requestRemoteResize(): void;
    _screenSize(): { w: number; h: number };
    disconnect(): void;
    sendKey(keysym: number, code: string, down?: boolean): void;
    clipboardPasteFrom(text: string): void;
    addEventListener<K extends keyof RfbEvents>(type: K, listener: (event: RfbEvents[K]) => void): void;
  }
}
