/**
 * Clipboard synchronization. The panel always works manually. With permission of the browser, remote text is written to
 * the local clipboard, and local text is sent to the desktop when the page gets the focus.
 */
import { viewer as s } from '../../lib/strings';
import { h, remembered } from './dom';

/** Largest text, below the frame limit of the gateway. */
const LIMIT = 256 * 1024;

export class ClipboardPanel {
  readonly element: HTMLElement;
  readonly #text: HTMLTextAreaElement;
  readonly #note: HTMLElement;
  readonly #auto: HTMLInputElement;
  readonly #autoLabel = h('span', {}, s.clipboardAuto);
  readonly #hint = h('p', { id: 'clipboard-hint', class: 'hint' }, s.clipboardHint);
  readonly #sendButton: HTMLButtonElement;
  readonly #copyButton: HTMLButtonElement;
  #in = true;
  #out = true;
  readonly #send: (text: string) => void;
  /** The text that both sides have, to avoid echoes. */
  #shared: string | null = null;

  constructor(send: (text: string) => void) {
    this.#send = send;
    this.#text = h('textarea', {
      'data-testid': 'clipboard-text',
      'aria-label': s.clipboardText,
      'aria-describedby': 'clipboard-hint',
      spellcheck: 'false',
      autocomplete: 'off',
      rows: '6',
    });
    this.#note = h('p', { class: 'note', role: 'status', 'data-testid': 'clipboard-note' });
    this.#auto = h('input', { type: 'checkbox', 'data-testid': 'clipboard-auto', change: () => void this.#toggle() });
    this.#auto.checked = remembered('clipboard') !== 'off';
    this.#sendButton = h('button', { type: 'button', class: 'primary', 'data-testid': 'clipboard-send', click: () => this.#sendNow() }, s.clipboardSend);
    this.#copyButton = h('button', { type: 'button', 'data-testid': 'clipboard-copy', click: () => void this.#copyNow() }, s.clipboardCopy);
    this.element = h(
      'section',
      { class: 'panel', 'data-testid': 'clipboard-panel', 'aria-label': s.clipboard, hidden: true },
      this.#hint,
      this.#text,
      h('div', { class: 'row' }, this.#sendButton, this.#copyButton),
      h('label', { class: 'check' }, this.#auto, this.#autoLabel),
      this.#note,
    );
    addEventListener('focus', () => void this.offer());
  }

  /** Which ways text may go; the gateway holds the stream to it, this only offers no more than that. */
  allow(into: boolean, out: boolean): void {
    this.#in = into;
    this.#out = out;
    this.#sendButton.hidden = !into;
    this.#copyButton.hidden = !out;
    this.#text.readOnly = !into;
    this.#hint.textContent = into && out ? s.clipboardHint : into ? s.clipboardHintIn : s.clipboardHintOut;
    this.#autoLabel.textContent = into && out ? s.clipboardAuto : into ? s.clipboardAutoIn : s.clipboardAutoOut;
  }

  focus(): void {
    this.#text.focus();
    this.#text.select();
  }

  /** The desktop has copied something. */
  received(text: string): void {
    if (!this.#out || text.length > LIMIT) return;
    this.#shared = text;
    this.#text.value = text;
    this.#say(s.clipboardReceived);
    if (this.#auto.checked && document.hasFocus()) void navigator.clipboard?.writeText(text).catch(() => {});
  }

  /** Gives this computer's clipboard to the desktop, if the browser has already permitted reading it. */
  async offer(): Promise<void> {
    if (!this.#in || !this.#auto.checked || !navigator.clipboard?.readText) return;
    try {
      const permission = await navigator.permissions.query({ name: 'clipboard-read' as PermissionName });
      if (permission.state !== 'granted' || !document.hasFocus()) return;
      this.#give(await navigator.clipboard.readText());
    } catch {
      // Not permitted, not text, or a browser without the question: the panel remains.
    }
  }

  #give(text: string): boolean {
    if (!text || text === this.#shared || text.length > LIMIT) return false;
    this.#shared = text;
    this.#text.value = text;
    this.#send(text);
    return true;
  }

  async #toggle(): Promise<void> {
    remembered('clipboard', this.#auto.checked ? 'on' : 'off');
    if (!this.#auto.checked || !this.#in) return;
    try {
      // The click allows the browser to ask the person for permission.
      this.#give(await navigator.clipboard.readText());
    } catch {
      this.#say(s.clipboardAutoOff);
    }
  }

  #sendNow(): void {
    const text = this.#text.value;
    if (text.length > LIMIT) return this.#say(s.clipboardTooLong);
    this.#shared = text;
    this.#send(text);
    this.#say(s.clipboardSent);
  }

  async #copyNow(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.#text.value);
    } catch {
      this.#text.select();
      document.execCommand('copy');
    }
    this.#say(s.clipboardCopied);
  }

  #say(words: string): void {
    this.#note.textContent = words;
  }
}
