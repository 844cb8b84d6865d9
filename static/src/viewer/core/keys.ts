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

export interface Chord {
  id: string;
  label: string;
  keys: readonly Key[];
}

export const CHORDS: readonly Chord[] = [
  { id: 'ctrl-alt-del', label: 'Ctrl Alt Del', keys: [CTRL, ALT, DELETE] },
  { id: 'super', label: 'Super', keys: [SUPER] },
  { id: 'alt-tab', label: 'Alt Tab', keys: [ALT, TAB] },
  { id: 'esc', label: 'Esc', keys: [ESC] },
  { id: 'alt-f4', label: 'Alt F4', keys: [ALT, fn(4)] },
  { id: 'f11', label: 'F11', keys: [fn(11)] },
  ...[1, 2, 7].map((n) => ({ id: `ctrl-alt-f${n}`, label: `Ctrl Alt F${n}`, keys: [CTRL, ALT, fn(n)] })),
];

/** The keysym of a character: Latin-1 is itself, the rest is Unicode with the X11 offset. */
export function keysymOf(character: string): number {
  const point = character.codePointAt(0) ?? 0;
  if (point === 0x0a) return ENTER.keysym;
  if (point === 0x09) return TAB.keysym;
  return point <= 0xff ? point : 0x0100_0000 | point;
}
