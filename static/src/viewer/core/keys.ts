/** Keys a browser or the operating system would keep for itself, sent by button. Keysyms are those of X11. */
import type { Key } from './protocol';

const key = (keysym: number, code: string): Key => ({ keysym, code });

const CTRL = key(0xffe3, 'ControlLeft');
const ALT = key(0xffe9, 'AltLeft');
const SUPER = key(0xffeb, 'MetaLeft');
const TAB = key(0xff09, 'Tab');
const ESC = key(0xff1b, 'Escape');
const DELETE = key(0xffff, 'Delete');
const fn = (n: number): Key => key(0xffbd + n, `F${n}`);

export const BACKSPACE = key(0xff08, 'Backspace');
export const ENTER = key(0xff0d, 'Enter');

/** Every modifier that can be held. */
export const HELD_MODIFIERS: readonly Key[] = [
  CTRL, key(0xffe4, 'ControlRight'), key(0xffe1, 'ShiftLeft'), key(0xffe2, 'ShiftRight'),
  ALT, key(0xffea, 'AltRight'), SUPER, key(0xffec, 'MetaRight'), key(0xfe03, ''),
];

/** Modifiers that an on-screen key holds down for the next key. */
export const MODIFIERS = { ctrl: CTRL, alt: ALT, super: SUPER } as const;
export type Modifier = keyof typeof MODIFIERS;

/** Keys that an on-screen keyboard lacks, in the order of their row. */
export const ROW: readonly { id: string; label: string; key: Key }[] = [
  { id: 'esc', label: 'Esc', key: ESC },
  { id: 'tab', label: 'Tab', key: TAB },
  { id: 'left', label: '←', key: key(0xff51, 'ArrowLeft') },
  { id: 'up', label: '↑', key: key(0xff52, 'ArrowUp') },
  { id: 'down', label: '↓', key: key(0xff54, 'ArrowDown') },
  { id: 'right', label: '→', key: key(0xff53, 'ArrowRight') },
  { id: 'del', label: 'Del', key: DELETE },
  { id: 'home', label: 'Home', key: key(0xff50, 'Home') },
  { id: 'end', label: 'End', key: key(0xff57, 'End') },
  { id: 'pgup', label: 'PgUp', key: key(0xff55, 'PageUp') },
  { id: 'pgdn', label: 'PgDn', key: key(0xff56, 'PageDown') },
  ...Array.from({ length: 12 }, (_, i) => ({ id: `f${i + 1}`, label: `F${i + 1}`, key: fn(i + 1) })),
];

export interface Chord {
  id: string;
  label: string;
  keys: readonly Key[];
}

const letter = (name: string): Key => key(name.codePointAt(0) ?? 0, `Key${name.toUpperCase()}`);
const COMMON: readonly Chord[] = [
  { id: 'ctrl-alt-del', label: 'Ctrl Alt Del', keys: [CTRL, ALT, DELETE] },
  { id: 'alt-tab', label: 'Alt Tab', keys: [ALT, TAB] },
  { id: 'esc', label: 'Esc', keys: [ESC] },
  { id: 'alt-f4', label: 'Alt F4', keys: [ALT, fn(4)] },
  { id: 'f11', label: 'F11', keys: [fn(11)] },
];
const WINDOWS: readonly Chord[] = [
  { id: 'super', label: 'Windows', keys: [SUPER] },
  { id: 'super-r', label: 'Windows R', keys: [SUPER, letter('r')] },
  { id: 'super-l', label: 'Windows L', keys: [SUPER, letter('l')] },
  { id: 'ctrl-esc', label: 'Ctrl Esc', keys: [CTRL, ESC] },
];
const X11: readonly Chord[] = [
  { id: 'super', label: 'Super', keys: [SUPER] },
  ...[1, 2, 7].map((n) => ({ id: `ctrl-alt-f${n}`, label: `Ctrl Alt F${n}`, keys: [CTRL, ALT, fn(n)] })),
];

/** What is worth a button on a desktop of this kind. */
export const chordsOf = (windows: boolean): readonly Chord[] => [...COMMON, ...(windows ? WINDOWS : X11)];

/** The keysym of a character: Latin-1 is itself, the rest is Unicode with the X11 offset. */
export function keysymOf(character: string): number {
  const point = character.codePointAt(0) ?? 0;
  if (point === 0x0a) return ENTER.keysym;
  if (point === 0x09) return TAB.keysym;
  return point <= 0xff ? point : 0x0100_0000 | point;
}

const SHIFT_KEY = key(0xffe1, 'ShiftLeft');
/** The characters of a US keyboard with Shift, and those of the same keys without. */
const WITH_SHIFT = '~!@#$%^&*()_+{}|:"<>?';
const WITHOUT_SHIFT = "`1234567890-=[]\\;',./";

/**
 * The character of a key event on a US keyboard. Some virtual keyboards report a key with Shift as the character it has
 * without.
 */
export function usCharacterOf({ key, code, shiftKey }: Pick<KeyboardEvent, 'key' | 'code' | 'shiftKey'>): string {
  const at = shiftKey ? WITHOUT_SHIFT.indexOf(key) : -1;
  return at >= 0 && keyOf(key).code === code ? (WITH_SHIFT[at] ?? key) : key;
}

/** The keys that type an ASCII character on a US keyboard, in the order in which they go down; null for another character. */
export function usKeysOf(character: string): readonly Key[] | null {
  const at = WITH_SHIFT.indexOf(character);
  const { code } = keyOf(at >= 0 ? (WITHOUT_SHIFT[at] ?? '') : character);
  if (!code) return null;
  const typed = { keysym: keysymOf(character), code };
  return at >= 0 || /^[A-Z]$/.test(character) ? [SHIFT_KEY, typed] : [typed];
}

/**
 * The keys that type a character over RFB. A server that reads scancodes (QEMU) needs those of a US keyboard, Shift included;
 * others read the keysym.
 */
export const textKeysOf = (character: string): readonly Key[] => usKeysOf(character) ?? [{ keysym: keysymOf(character), code: '' }];

/** The key a character stands on, on a US keyboard: what a shortcut such as Ctrl C needs. */
export function keyOf(character: string): Key {
  const lower = character.toLowerCase();
  const code = /^[a-z]$/.test(lower) ? `Key${lower.toUpperCase()}` : /^[0-9]$/.test(lower) ? `Digit${lower}` : (KEY_CODES[lower] ?? '');
  return { keysym: keysymOf(lower), code };
}
const KEY_CODES: Record<string, string> = { ' ': 'Space', '\n': 'Enter', '\t': 'Tab', '-': 'Minus', '=': 'Equal', '[': 'BracketLeft', ']': 'BracketRight', ';': 'Semicolon', "'": 'Quote', '`': 'Backquote', '\\': 'Backslash', ',': 'Comma', '.': 'Period', '/': 'Slash' };
