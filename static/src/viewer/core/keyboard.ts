/**
 * The text field that has the keyboard focus for a desktop, in place of its canvas: only a text field gets what input
 * methods compose, and the `paste` event.
 *
 * A key is down in the desktop only while this field has the focus: whenever it loses it (another element, another window,
 * a hidden page), each key that is down is released.
 */
import type { Protocol } from './protocol';

/** What the field needs of a `Protocol`. */
export type KeySink = Pick<Protocol, 'key' | 'releaseInput' | 'composes' | 'sendText'>;

/** `keyCode` of a key that an input method has taken (UI Events, "processed by the IME"). */
const TAKEN_BY_INPUT_METHOD = 229;
/** Input events that carry text which no key event did: an emoji panel, dictation, a correction. */
const TEXT_INPUT = ['insertText', 'insertReplacementText'];
/** Keys that wait while the desktop is given text to paste, at most. */
const WAITING_KEYS = 1_000;
const SHIFTS = ['ShiftLeft', 'ShiftRight'];

export interface KeyboardPorts {
  sink(): KeySink | null;
  /** Whether the desktop can be given text. */
  pastes(): boolean;
  /** Gives the desktop the text to paste. Resolves to false when it must not paste. */
  paste(data: DataTransfer): Promise<boolean>;
  /** macOS reports no release of a key that was pressed while Meta was down. */
  mac: boolean;
}

export class KeyboardFocus {
  readonly field: HTMLTextAreaElement;
  readonly #ports: KeyboardPorts;
  /** Keys that are down in the desktop, by `KeyboardEvent.code`. */
  readonly #down = new Map<string, KeyboardEvent>();
  /** A key that pastes, and the keys after it: they wait until the desktop has the text. */
  #pasting: [event: KeyboardEvent, down: boolean][] | null = null;
  /** The text of a `paste` event is being given to the desktop. */
  #reading = false;
  /** The next character is combined with a dead key; the browser does that. */
  #dead = false;

  constructor(field: HTMLTextAreaElement, ports: KeyboardPorts) {
    this.field = field;
    this.#ports = ports;
    field.addEventListener('keydown', (event) => this.#key(event, true));
    field.addEventListener('keyup', (event) => this.#key(event, false));
    field.addEventListener('paste', (event) => this.#paste(event));
    field.addEventListener('compositionstart', () => (this.#dead = false));
    // Empty when the composition was cancelled.
    field.addEventListener('compositionend', ({ data }) => this.#text(data));
    field.addEventListener('input', (event) => this.#input(event as InputEvent));
    field.addEventListener('blur', () => this.release());
    addEventListener('blur', () => this.release());
    addEventListener('pagehide', () => this.release());
    document.addEventListener('visibilitychange', () => document.hidden && this.release());
  }

  get focused(): boolean {
    return document.activeElement === this.field;
  }

  /** `touch`: a touch screen must not open its keyboard for it. */
  focus(touch = false): void {
    this.field.inputMode = touch ? 'none' : '';
    this.field.focus({ preventScroll: true });
  }

  /** Where the candidates of an input method are shown. */
  place(x: number, y: number): void {
    Object.assign(this.field.style, { left: `${x}px`, top: `${y}px` });
  }

  /** Releases each key that is down. */
  release(): void {
    this.#dead = false;
    this.#pasting = null;
    const held = [...this.#down.values()];
    this.#down.clear();
    const sink = this.#ports.sink();
    for (const { key, code, location } of held) sink?.key(new KeyboardEvent('keyup', { key, code, location }), false);
    sink?.releaseInput();
  }

  #key(event: KeyboardEvent, down: boolean): void {
    event.stopPropagation();
    if (this.#pasting) {
      event.preventDefault();
      if (this.#pasting.length < WAITING_KEYS) this.#pasting.push([event, down]);
    } else if (down && isPaste(event) && this.#ports.pastes()) {
      // Not prevented: the browser's `paste` event follows at once, and brings the text without any permission.
      const pasting: [KeyboardEvent, boolean][] = [[event, true]];
      this.#pasting = pasting;
      setTimeout(() => !this.#reading && this.#pasted(pasting, true));
    } else if (down) {
      this.#pressed(event);
    } else {
      this.#released(event);
    }
  }

  #paste(event: ClipboardEvent): void {
    event.preventDefault();
    const data = event.clipboardData;
    if (!data || this.#reading || !this.#ports.pastes()) return;
    // Without a key: the browser's own menu.
    const pasting = this.#pasting;
    this.#reading = true;
    void this.#ports.paste(data).then((pastes) => {
      this.#reading = false;
      if (pasting) this.#pasted(pasting, pastes);
    });
  }

  /** Sends the key that pastes, unless the desktop must not, and those after it. */
  #pasted(pasting: [KeyboardEvent, boolean][], pastes: boolean): void {
    // The focus has left the field since: nothing may go down any more.
    if (this.#pasting !== pasting) return;
    this.#pasting = null;
    for (const [event, down] of pasting.slice(pastes ? 0 : 1)) {
      if (down) this.#pressed(event);
      else this.#released(event);
    }
  }

  #pressed(event: KeyboardEvent): void {
    const sink = this.#ports.sink();
    if (event.isComposing || event.key === 'Process' || event.keyCode === TAKEN_BY_INPUT_METHOD) return;
    const character = [...event.key].length === 1;
    const local = sink?.composes() ?? false;
    if (event.key === 'Dead' && local) {
      this.#dead = true;
      return;
    }
    // The browser combines it with the dead key, and an input event has the result.
    if (this.#dead && local && character) return;
    if (character || !isModifier(event)) this.#dead = false;
    event.preventDefault();
    // A virtual keyboard names no key, and reports no release either.
    const code = event.code || (character ? '' : event.key);
    if (!code) return sink?.sendText(event.key);
    const named = event.code ? event : copyOf(event, 'keydown', code);
    sink?.key(named, true);
    if (!event.code || (this.#ports.mac && event.metaKey && event.key !== 'Meta')) sink?.key(copyOf(event, 'keyup', code), false);
    else this.#down.set(code, event);
  }

  #released(event: KeyboardEvent): void {
    this.#up(event.code, event);
    // Windows does not report the release of one Shift key while the other one is down.
    if (SHIFTS.includes(event.code) && !event.shiftKey) for (const code of SHIFTS) this.#up(code, copyOf(event, 'keyup', code));
  }

  #up(code: string, event: KeyboardEvent): void {
    if (!this.#down.delete(code)) return;
    event.preventDefault();
    this.#ports.sink()?.key(event, false);
  }

  #input(event: InputEvent): void {
    // What is composed comes at the end of the composition.
    if (event.isComposing) return;
    if (TEXT_INPUT.includes(event.inputType)) this.#text(event.data ?? '');
    else this.field.value = '';
  }

  #text(text: string): void {
    this.#dead = false;
    this.field.value = '';
    if (text) this.#ports.sink()?.sendText(text);
  }
}

const MODIFIERS = ['Shift', 'Control', 'Alt', 'AltGraph', 'Meta', 'CapsLock'];
const isModifier = ({ key }: KeyboardEvent) => MODIFIERS.includes(key);

/** Ctrl V, Ctrl Shift V, Cmd V, and Shift Insert; on a keyboard without Latin letters, the key where V would be. */
function isPaste({ key, code, ctrlKey, metaKey, altKey, shiftKey }: KeyboardEvent): boolean {
  if (altKey) return false;
  if (ctrlKey || metaKey) return key.toLowerCase() === 'v' || (code === 'KeyV' && key > '\u007f');
  return shiftKey && key === 'Insert';
}

/** The same key as an event of another type or code; a browser's own event cannot be dispatched a second time. */
export function copyOf(event: KeyboardEvent, type = event.type, code = event.code): KeyboardEvent {
  const { key, location, repeat, ctrlKey, shiftKey, altKey, metaKey } = event;
  const state = (name: string) => event.getModifierState(name);
  return new KeyboardEvent(type, {
    key, code, location, repeat, ctrlKey, shiftKey, altKey, metaKey,
    modifierAltGraph: state('AltGraph'),
    modifierCapsLock: state('CapsLock'),
    modifierNumLock: state('NumLock'),
  });
}
