/**
 * Clipboard synchronization. Into the desktop: by the `paste` event, which needs no permission, by itself where the browser
 * permits reading, and by the panel. Out of it: written to this computer's clipboard, and into the panel.
 *
 * Text that cannot be transferred is refused in words, and nothing older is left in its place.
 */
import { bytes } from '../../lib/format';
import { viewer as s } from '../../lib/strings';
import type { PasteResult } from '../core/protocol';
import { h, remembered } from './dom';

/** Longest text, in bytes of UTF-8; servers take a little more. */
export const LIMIT = 10 * 1024 * 1024;
/** Longer text is not shown: a text field of this size blocks the page. */
const SHOWN = 256 * 1024;

export interface ClipboardPorts {
  /** Resolves when the text is on its way before everything that is sent later; rejects when it cannot be sent. */
  send(text: string): Promise<PasteResult>;
  /** Longest text that this desktop takes, if less than what the page does. */
  limit(): number | undefined;
  /** Tells the user, also while the panel is closed. */
  tell(words: string): void;
}

/** The size in UTF-8; long text is not encoded to find out that it is too long. */
export const sizeOf = (text: string): number => (text.length > LIMIT ? text.length : new TextEncoder().encode(text).length);

type Reading = PermissionState | 'unknown';

export class ClipboardPanel {
  readonly element: HTMLElement;
  readonly #text: HTMLTextAreaElement;
  readonly #note: HTMLElement;
  readonly #auto: HTMLInputElement;
  readonly #autoLabel = h('span', {}, s.clipboardAuto);
  readonly #autoHint = h('p', { class: 'hint', 'data-testid': 'clipboard-auto-hint', hidden: true });
  readonly #hint = h('p', { id: 'clipboard-hint', class: 'hint' }, s.clipboardHint);
  readonly #sendButton: HTMLButtonElement;
  readonly #copyButton: HTMLButtonElement;
  readonly #ports: ClipboardPorts;
  #in = true;
  #out = true;
  /** Whether the page may read this computer's clipboard. */
  #reading: Reading = 'unknown';
  /** The text that both sides have, to avoid echoes. */
  #shared: string | null = null;
  /** Text of the desktop that this computer's clipboard does not have yet. */
  #unwritten: string | null = null;
  /** Last known text of this computer's clipboard. */
  #local: string | null = null;
  /** Text too long to be shown, which the panel stands for. */
  #long: string | null = null;

  constructor(ports: ClipboardPorts) {
    this.#ports = ports;
    this.#text = h('textarea', {
      'data-testid': 'clipboard-text',
      'aria-label': s.clipboardText,
      'aria-describedby': 'clipboard-hint',
      spellcheck: 'false',
      autocomplete: 'off',
      rows: '6',
      input: () => (this.#long = null),
    });
    this.#note = h('p', { class: 'note', role: 'status', 'data-testid': 'clipboard-note' });
    this.#auto = h('input', { type: 'checkbox', 'data-testid': 'clipboard-auto', change: () => void this.#toggle() });
    this.#sendButton = h('button', { type: 'button', class: 'primary', 'data-testid': 'clipboard-send', click: () => void this.#sendNow() }, s.clipboardSend);
    this.#copyButton = h('button', { type: 'button', 'data-testid': 'clipboard-copy', click: () => void this.#copyNow() }, s.clipboardCopy);
    this.element = h(
      'section',
      { class: 'panel', 'data-testid': 'clipboard-panel', 'aria-label': s.clipboard, hidden: true },
      this.#hint,
      this.#text,
      h('div', { class: 'row' }, this.#sendButton, this.#copyButton),
      h('label', { class: 'check' }, this.#auto, this.#autoLabel),
      this.#autoHint,
      this.#note,
    );
    addEventListener('focus', () => {
      void this.#writeLate();
      void this.offer();
    });
    // Some browsers permit writing only in response to a click or a key.
    for (const type of ['pointerup', 'keydown']) addEventListener(type, () => void this.#writeLate(), true);
    void this.#watchPermission();
  }

  /** Which ways text may go; the gateway enforces it. */
  allow(into: boolean, out: boolean): void {
    this.#in = into;
    this.#out = out;
    this.#sendButton.hidden = !into;
    this.#copyButton.hidden = !out;
    this.#text.readOnly = !into;
    this.#hint.textContent = into && out ? s.clipboardHint : into ? s.clipboardHintIn : s.clipboardHintOut;
    this.#autoLabel.textContent = into && out ? s.clipboardAuto : into ? s.clipboardAutoIn : s.clipboardAutoOut;
    this.#showAuto();
  }

  /** Whether the desktop may be given text. */
  get takes(): boolean {
    return this.#in;
  }

  focus(): void {
    this.#text.focus();
    this.#text.select();
  }

  /** The desktop has copied something. */
  async received(text: string): Promise<void> {
    if (!this.#out) return;
    const size = sizeOf(text);
    if (size > LIMIT) {
      this.#unwritten = null;
      return this.#refuse(s.clipboardTooLongOut(bytes(size), bytes(LIMIT)));
    }
    this.#shared = text;
    this.#show(text);
    this.#say(s.clipboardReceived);
    if (remembered('clipboard') === 'off') return;
    this.#unwritten = text;
    await this.#writeLate();
    if (this.#unwritten === text) this.#say(document.hasFocus() ? s.clipboardNotWritten : s.clipboardReceived);
  }

  /** The desktop announced text, and did not give it. */
  lost(): void {
    if (this.#out) this.#refuse(s.clipboardLost);
  }

  /**
   * The user pastes into the desktop. False: the desktop must not paste, since it would paste something else.
   */
  async paste(data: DataTransfer): Promise<boolean> {
    const text = data.getData('text/plain');
    if (!text) {
      if (data.types.length === 0) return true;
      this.#refuse(s.clipboardOnlyText);
      await this.#empty();
      return false;
    }
    // The desktop has copied something since, which this computer's clipboard could not take.
    if (this.#unwritten !== null && text === this.#local) return true;
    return this.#give(text);
  }

  /** Gives this computer's clipboard to the desktop, if the browser has already permitted reading it. */
  async offer(): Promise<void> {
    if (!this.#in || remembered('clipboard') === 'off' || this.#reading !== 'granted' || !document.hasFocus()) return;
    try {
      const text = await navigator.clipboard.readText();
      if (text && this.#unwritten === null) await this.#give(text, false);
    } catch {
      // Not text; the `paste` event says so when it is pasted.
    }
  }

  /** True when the desktop has `text` now. Nobody who did not ask for it (`asked`) is told that a desktop does not take it, or not yet. */
  async #give(text: string, asked = true): Promise<boolean> {
    this.#local = text;
    if (text === this.#shared) return true;
    return this.#transfer(text, asked);
  }

  get #limit(): number {
    return Math.min(LIMIT, this.#ports.limit() ?? LIMIT);
  }

  async #transfer(text: string, asked = true): Promise<boolean> {
    const size = sizeOf(text);
    if (size > this.#limit) {
      this.#refuse(s.clipboardTooLong(bytes(size), bytes(this.#limit)));
      await this.#empty();
      return false;
    }
    try {
      const { replaced, offered } = await this.#ports.send(text);
      this.#shared = text;
      this.#unwritten = null;
      this.#show(text);
      this.#say(offered ? s.clipboardOffered : s.clipboardSent);
      if (replaced) this.#refuse(s.clipboardReplaced(replaced));
      return true;
    } catch {
      this.#shared = null;
      if (asked) this.#refuse(s.clipboardFailed);
      return false;
    }
  }

  /** What the desktop had before must not be pasted in place of what was refused. */
  async #empty(): Promise<void> {
    this.#shared = null;
    await this.#ports.send('').catch(() => {});
  }

  async #writeLate(): Promise<void> {
    const text = this.#unwritten;
    if (text === null || !document.hasFocus()) return;
    try {
      await navigator.clipboard.writeText(text);
      this.#local = text;
      if (this.#unwritten === text) this.#unwritten = null;
    } catch {
      // Tried again at the next click or key.
    }
  }

  async #watchPermission(): Promise<void> {
    try {
      const permission = await navigator.permissions.query({ name: 'clipboard-read' as PermissionName });
      const update = () => {
        this.#reading = permission.state;
        this.#showAuto();
        void this.offer();
      };
      permission.addEventListener('change', update);
      update();
    } catch {
      // Firefox and Safari: only the `paste` event reads.
      this.#showAuto();
    }
  }

  /** The box is ticked where both ways work by themselves. */
  #showAuto(): void {
    const wanted = remembered('clipboard') !== 'off';
    const reads = !this.#in || this.#reading === 'granted';
    this.#auto.checked = wanted && reads;
    this.#auto.disabled = !reads && this.#reading === 'denied';
    this.#autoHint.hidden = reads;
    this.#autoHint.textContent = this.#reading === 'denied' ? s.clipboardAutoDenied : s.clipboardAutoAsk;
  }

  async #toggle(): Promise<void> {
    remembered('clipboard', this.#auto.checked ? 'on' : 'off');
    if (!this.#auto.checked || !this.#in) return;
    try {
      // The click allows the browser to ask the person for permission.
      const text = await navigator.clipboard.readText();
      this.#reading = 'granted';
      if (text) await this.#give(text);
    } catch {
      this.#say(s.clipboardAutoOff);
    }
    this.#showAuto();
  }

  async #sendNow(): Promise<void> {
    const text = this.#long ?? this.#text.value;
    await this.#transfer(text);
  }

  async #copyNow(): Promise<void> {
    const text = this.#long ?? this.#text.value;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      this.#text.select();
      if (this.#long !== null || !document.execCommand('copy')) return this.#say(s.clipboardCopyFailed);
    }
    this.#local = text;
    this.#unwritten = null;
    this.#say(s.clipboardCopied);
  }

  #show(text: string): void {
    const long = text.length > SHOWN;
    this.#long = long ? text : null;
    this.#text.value = long ? '' : text;
    this.#text.placeholder = long ? s.clipboardLong(bytes(sizeOf(text))) : '';
  }

  #say(words: string): void {
    this.#note.textContent = words;
  }

  #refuse(words: string): void {
    this.#say(words);
    this.#ports.tell(words);
  }
}
