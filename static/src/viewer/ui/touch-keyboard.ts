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

/** What was typed and how much was deleted between two values of the field. */
export function difference(before: string, after: string): { deleted: number; typed: string } {
  let same = 0;
  while (same < before.length && same < after.length && before[same] === after[same]) same += 1;
  return { deleted: before.length - same, typed: after.slice(same) };
}

export function touchKeyboard(send: { text(text: string): void; chord(keys: readonly Key[]): void }): HTMLTextAreaElement {
  let before = FILLER;
  const field: HTMLTextAreaElement = h('textarea', {
    class: 'touch-keyboard',
    'aria-label': s.keyboard,
    tabindex: '-1',
    autocapitalize: 'off',
    autocomplete: 'off',
    spellcheck: 'false',
    input: () => {
      const { deleted, typed } = difference(before, field.value);
      for (let i = 0; i < deleted; i += 1) send.chord([BACKSPACE]);
      if (typed) send.text(typed);
      if (field.value.length > 256 || field.value.length === 0) field.value = FILLER;
      before = field.value;
    },
    focus: () => {
      before = field.value = FILLER;
      field.setSelectionRange(before.length, before.length);
    },
  });
  return field;
}
