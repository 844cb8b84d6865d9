/** Short messages over the desktop: one at a time, for some seconds. */
import { viewer as s } from '../../lib/strings';
import { h } from './dom';

const SHOWN_MS = 4_000;
/** Longer messages stay longer: reading speed. */
const MS_PER_CHARACTER = 60;
/** Lost characters that are named, at most. */
const LOST_SHOWN = 20;

export class Notice {
  readonly #root: HTMLElement;
  #lost = '';
  #lastLost = -Infinity;

  constructor(root: HTMLElement) {
    this.#root = root;
  }

  show(words: string): void {
    const note = h('p', { class: 'flash', role: 'status', 'data-testid': 'flash' }, words);
    this.#root.querySelectorAll('.flash').forEach((earlier) => earlier.remove());
    this.#root.append(note);
    setTimeout(() => note.remove(), Math.max(SHOWN_MS, words.length * MS_PER_CHARACTER));
  }

  /** Names the typed characters that the desktop cannot take, those that follow each other together. */
  lost(text: string, canPaste: boolean): void {
    const now = performance.now();
    const earlier = now - this.#lastLost > SHOWN_MS ? '' : this.#lost;
    this.#lost = earlier.includes(text) ? earlier : earlier + text;
    this.#lastLost = now;
    this.show((canPaste ? s.lostPaste : s.lost)([...this.#lost].slice(-LOST_SHOWN).join(' ')));
  }
}
