/**
 * Opens the on-screen keyboard, which needs a focused text field: a hidden one receives the input and sends the
 * difference.
 */
import { BACKSPACE } from '../core/keys';
import type { Key } from '../core/protocol';
import { viewer as s } from '../../lib/strings';
import { h } from './dom';

/** Filler text, so that Backspace causes an input event. */
const FILLER = '\u00a0'.repeat(16);

/** Scripts whose input methods replace what is composed; keyboards of others compose each word, which is sent as it is typed. */
const REPLACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}]/u;

/** What was typed and how many characters (code points) were deleted between two values of the field. */
export function difference(before: string, after: string): { deleted: number; typed: string } {
  const [old, now] = [[...before], [...after]];
  let same = 0;
  while (same < old.length && same < now.length && old[same] === now[same]) same += 1;
  return { deleted: old.length - same, typed: now.slice(same).join('') };
}

export function touchKeyboard(send: { text(text: string): void; chord(keys: readonly Key[]): void }): HTMLTextAreaElement {
  let before = FILLER;
  const update = (composing: boolean) => {
    const { deleted, typed } = difference(before, field.value);
    for (let i = 0; i < deleted; i += 1) send.chord([BACKSPACE]);
    if (typed) send.text(typed);
    // Setting the value would end a composition.
    if (!composing && (field.value.length > 256 || field.value.length === 0)) field.value = FILLER;
    before = field.value;
  };
  const field: HTMLTextAreaElement = h('textarea', {
    class: 'touch-keyboard',
    'aria-label': s.keyboard,
    tabindex: '-1',
    autocapitalize: 'off',
    autocomplete: 'off',
    spellcheck: 'false',
    input: (event: InputEvent) => {
      if (!event.isComposing || !REPLACED.test(field.value)) update(event.isComposing);
    },
    compositionend: () => update(false),
    focus: () => {
      before = field.value = FILLER;
      field.setSelectionRange(before.length, before.length);
    },
  });
  return field;
}
