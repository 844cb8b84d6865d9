/** Quality and keyboard settings, as far as the protocol supports them. */
import type { Allowed, Capabilities, Density, KeyboardMode, Quality } from '../core/protocol';
import { viewer as s } from '../../lib/strings';
import { h, remembered } from './dom';

const QUALITIES: readonly Quality[] = ['auto', 'sharp', 'light'];
const MODES: readonly KeyboardMode[] = ['character', 'position'];

const DENSITIES: readonly Density[] = ['normal', 'sharp'];

/** Whether the choice of pixels makes a difference on this screen. */
export const isDense = (): boolean => devicePixelRatio > 1;

const chosen = <T extends string>(key: string, all: readonly T[]): T => all.find((value) => value === remembered(key)) ?? (all[0] as T);

export class Settings {
  quality: Quality = chosen('quality', QUALITIES);
  keyboard: KeyboardMode = chosen('keyboard', MODES);
  density: Density = chosen('density', DENSITIES);
  readonly element: HTMLElement;
  readonly #quality: HTMLElement;
  readonly #keyboard: HTMLElement;
  readonly #density: HTMLElement;

  constructor(changed: (settings: Settings) => void) {
    this.#quality = choice('quality', s.quality, QUALITIES, s.qualities, this.quality, (value) => {
      this.quality = value;
      changed(this);
    });
    this.#keyboard = choice('keyboard', s.keyboardMode, MODES, s.keyboardModes, this.keyboard, (value) => {
      this.keyboard = value;
      changed(this);
    });
    this.#density = choice('density', s.density, DENSITIES, s.densities, this.density, (value) => {
      this.density = value;
      changed(this);
    });
    this.#density.append(h('p', { class: 'hint' }, s.densityHint));
    this.#keyboard.append(h('p', { class: 'hint' }, s.keyboardModeHint));
    this.element = h('section', { class: 'panel', hidden: true, 'aria-label': s.settings, 'data-testid': 'settings-panel' }, this.#quality, this.#density, this.#keyboard);
  }

  offer(can: Capabilities, allowed: Allowed): void {
    this.#quality.hidden = !can.quality;
    this.#density.hidden = can.application || !allowed.input || !isDense();
    this.#keyboard.hidden = !can.keyboardModes || !allowed.input;
  }
}

function choice<T extends string>(key: string, label: string, all: readonly T[], words: Record<T, string>, now: T, change: (value: T) => void): HTMLElement {
  return h(
    'fieldset',
    { class: 'choice' },
    h('legend', {}, label),
    ...all.map((value) => {
      const input = h('input', {
        type: 'radio',
        name: key,
        value,
        'data-testid': `${key}-${value}`,
        change: () => {
          remembered(key, value);
          change(value);
        },
      });
      input.checked = value === now;
      return h('label', { class: 'check' }, input, words[value]);
    }),
  );
}
