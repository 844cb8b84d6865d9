/**
 * Chooses the sizing mode. In a large window the desktop is resized to it. A desktop as small as a phone is not usable, so
 * in a small window it is scaled or panned. The user's choice is stored separately for small and large windows.
 */
import type { Sizing } from './protocol';

/** Windows with a shorter side are small. */
const SMALL_PX = 600;

export interface Size {
  width: number;
  height: number;
}
/** Reads a stored setting, or writes it. */
export type Keep = (key: string, value?: string) => string | null;

const isSmall = ({ width, height }: Size) => Math.min(width, height) < SMALL_PX;
const keyOf = (window: Size) => (isSmall(window) ? 'sizing.small' : 'sizing');

/** Modes available in this window, default first. */
export function sizings(window: Size, follows = true): readonly [Sizing, Sizing] {
  return isSmall(window) || !follows ? ['fit', 'actual'] : ['remote', 'fit'];
}

/** `follows`: the desktop may be resized. */
export function sizingFor(window: Size, keep: Keep, follows = true): Sizing {
  const chosen = keep(keyOf(window));
  const possible = sizings(window, follows);
  return possible.find((sizing) => sizing === chosen) ?? possible[0];
}

export function chooseSizing(sizing: Sizing, window: Size, keep: Keep): void {
  keep(keyOf(window), sizing);
}
