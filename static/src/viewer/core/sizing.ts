/**
 * How the desktop and the window get to the same size. A large window lets the desktop follow it; a desktop as small as
 * a phone is of no use (its windows stand beyond the edge), so there the picture is scaled, or shown as large as it is
 * and moved about with a finger. A person's choice holds for windows of the kind in which it was made.
 */
import type { Sizing } from './protocol';

/** Below this a desktop has no room for its own windows. */
const SMALL_PX = 600;

export interface Size {
  width: number;
  height: number;
}
/** Reads a remembered setting, or keeps a new one. */
export type Keep = (key: string, value?: string) => string | null;

const isSmall = ({ width, height }: Size) => Math.min(width, height) < SMALL_PX;
const keyOf = (window: Size) => (isSmall(window) ? 'sizing.small' : 'sizing');

/** What a person may choose from in this window; the first is what they get. */
export function sizings(window: Size, follows = true): readonly [Sizing, Sizing] {
  return isSmall(window) || !follows ? ['fit', 'actual'] : ['remote', 'fit'];
}

/** `follows`: the desktop may be asked to take the window's size. */
export function sizingFor(window: Size, keep: Keep, follows = true): Sizing {
  const chosen = keep(keyOf(window));
  const possible = sizings(window, follows);
  return possible.find((sizing) => sizing === chosen) ?? possible[0];
}

export function chooseSizing(sizing: Sizing, window: Size, keep: Keep): void {
  keep(keyOf(window), sizing);
}
