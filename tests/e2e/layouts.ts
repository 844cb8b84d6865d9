// Keyboard layouts as Chromium reports them: which key, and which character it types.
import type { CDPSession, Page } from '@playwright/test';

interface Stroke {
  code: string;
  key: string;
  shift?: boolean;
  altGr?: boolean;
}

/** A text, and the strokes that type it: `[code, key]`, with `+` for Shift and `^` for AltGr before the code. */
type TypedText = readonly [text: string, strokes: readonly (readonly [string, string])[]];

export const LAYOUTS: Record<string, TypedText> = {
  // AltGr for @ € { }, letters of its own, z and y changed places, a dead acute before e.
  German: [
    'zy öß @€{é',
    [
      ['KeyY', 'z'], ['KeyZ', 'y'], ['Space', ' '], ['Semicolon', 'ö'], ['Minus', 'ß'], ['Space', ' '],
      ['^KeyQ', '@'], ['^KeyE', '€'], ['^Digit7', '{'], ['Equal', 'Dead'], ['KeyE', 'é'],
    ],
  ],
  // The digits need Shift, the accents do not; a and q changed places.
  French: [
    'aq éà 15 #ê',
    [
      ['KeyQ', 'a'], ['KeyA', 'q'], ['Space', ' '], ['Digit2', 'é'], ['Digit0', 'à'], ['Space', ' '],
      ['+Digit1', '1'], ['+Digit5', '5'], ['Space', ' '], ['^Digit3', '#'], ['BracketLeft', 'Dead'], ['KeyE', 'ê'],
    ],
  ],
  // Quotes are dead keys; AltGr for letters.
  'US-International': [
    "é ñ ü ' ß$",
    [
      ['Quote', 'Dead'], ['KeyE', 'é'], ['Space', ' '], ['+Backquote', 'Dead'], ['KeyN', 'ñ'], ['Space', ' '], ['+Quote', 'Dead'], ['KeyU', 'ü'], ['Space', ' '],
      ['Quote', 'Dead'], ['Space', "'"], ['Space', ' '], ['^KeyS', 'ß'], ['+Digit4', '$'],
    ],
  ],
};

/** A Japanese keyboard of 106 keys: ASCII only, on other keys than a US one. */
export const JAPANESE: TypedText = ['a@:+_"^', [['KeyA', 'a'], ['BracketLeft', '@'], ['Quote', ':'], ['+Semicolon', '+'], ['+IntlRo', '_'], ['+Digit2', '"'], ['Equal', '^']]];

const parse = ([code, key]: readonly [string, string]): Stroke => ({ code: code.replace(/^[+^]/, ''), key, shift: code.startsWith('+'), altGr: code.startsWith('^') });

/** Presses the keys as that keyboard would: with the events that Chromium on Linux gives for it. */
export async function pressKeys(page: Page, strokes: TypedText[1]): Promise<void> {
  const keys: CDPSession = await page.context().newCDPSession(page);
  const send = (type: 'keyDown' | 'keyUp', code: string, key: string, modifiers: number, location = 0) =>
    keys.send('Input.dispatchKeyEvent', { type, code, key, modifiers, location, ...(type === 'keyDown' && key.length === 1 ? { text: key, unmodifiedText: key } : {}) });
  for (const { code, key, shift, altGr } of strokes.map(parse)) {
    const modifiers = shift ? 8 : 0;
    if (shift) await send('keyDown', 'ShiftLeft', 'Shift', 8, 1);
    if (altGr) await send('keyDown', 'AltRight', 'AltGraph', 0, 2);
    await send('keyDown', code, key, modifiers);
    await send('keyUp', code, key, modifiers);
    if (altGr) await send('keyUp', 'AltRight', 'AltGraph', 0, 2);
    if (shift) await send('keyUp', 'ShiftLeft', 'Shift', 0, 1);
  }
  await keys.detach();
}
