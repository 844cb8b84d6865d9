/**
 * Keys that an on-screen keyboard lacks. Ctrl, Alt and Super are sticky for the next key; pressing them again releases
 * them.
 */
import { MODIFIERS, type Modifier, ROW, keyOf } from '../core/keys';
import type { Key } from '../core/protocol';
import { viewer as s } from '../../lib/strings';
import { h } from './dom';

export interface Send {
  text(text: string): void;
  chord(keys: readonly Key[]): void;
}

export class KeyRow {
  readonly element: HTMLElement;
  readonly #held = new Set<Modifier>();
  readonly #buttons = new Map<Modifier, HTMLButtonElement>();
  readonly #send: Send;

  constructor(send: Send) {
    this.#send = send;
    const modifiers = (Object.keys(MODIFIERS) as Modifier[]).map((name) => {
      const button = key(`modifier-${name}`, s.modifiers[name], () => this.#hold(name, !this.#held.has(name)));
      button.setAttribute('aria-pressed', 'false');
      this.#buttons.set(name, button);
      return button;
    });
    const keys = ROW.map(({ id, label, key: sent }) => key(`row-${id}`, label, () => this.chord([sent])));
    this.element = h('div', { class: 'key-row', role: 'toolbar', 'aria-label': s.keyRow, 'data-testid': 'key-row', hidden: true }, ...keys.slice(0, 2), ...modifiers, ...keys.slice(2));
  }

  set windows(windows: boolean) {
    const button = this.#buttons.get('super');
    if (button) button.textContent = windows ? s.modifiers.windows : s.modifiers.super;
  }

  /** Lets go of the sticky modifiers. */
  release(): void {
    for (const name of [...this.#held]) this.#hold(name, false);
  }

  /** Sends typed text with the sticky modifiers. */
  text(text: string): void {
    if (this.#held.size === 0) return this.#send.text(text);
    const [first, ...rest] = [...text];
    if (first) this.chord([keyOf(first)]);
    if (rest.length > 0) this.#send.text(rest.join(''));
  }

  chord(keys: readonly Key[]): void {
    const held = [...this.#held].map((name) => MODIFIERS[name]);
    this.release();
    this.#send.chord([...held, ...keys]);
  }

  #hold(name: Modifier, down: boolean): void {
    if (down) this.#held.add(name);
    else this.#held.delete(name);
    this.#buttons.get(name)?.setAttribute('aria-pressed', String(down));
  }
}

function key(id: string, label: string, press: () => void): HTMLButtonElement {
  return h(
    'button',
    {
      type: 'button',
      'data-testid': id,
      // Keeps the focus in the text field, or the on-screen keyboard would close.
      pointerdown: (event: PointerEvent) => event.preventDefault(),
      click: press,
    },
    label,
  );
}
