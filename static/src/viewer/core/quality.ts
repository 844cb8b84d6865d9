/**
 * How much a picture may cost, by how fast it comes. Measured while the stream is busy: what came in a burst divided by
 * how long the burst took. A step down is taken soon, a step up only when there is clearly room, so that the picture
 * does not flicker between two levels.
 */
export interface Level {
  /** noVNC's `qualityLevel` (JPEG, 0 to 9). */
  quality: number;
  /** noVNC's `compressionLevel` (0 to 9). */
  compression: number;
}

/** From the best; `from` is the bandwidth in bits per second that it needs. */
const LEVELS: readonly (Level & { from: number })[] = [
  { from: 30e6, quality: 8, compression: 1 },
  { from: 8e6, quality: 7, compression: 2 },
  { from: 3e6, quality: 6, compression: 4 },
  { from: 1e6, quality: 4, compression: 7 },
  { from: 0, quality: 2, compression: 9 },
];
export const SHARP: Level = { quality: 9, compression: 1 };
export const LIGHT: Level = { quality: 2, compression: 9 };

/** More than this beyond a level's need is "clearly room". */
const ROOM = 1.4;
/** So many measurements in a row before a step. */
const DOWN_AFTER = 2;
const UP_AFTER = 4;

export interface Control {
  /** Index into the levels; 0 is the best. */
  at: number;
  /** Measurements in a row that would go down (negative) or up (positive). */
  run: number;
}

/** Where a stream begins, before anything was measured. */
export const FIRST: Control = { at: 1, run: 0 };

/** The next state, given one more measurement in bits per second. */
export function follow({ at, run }: Control, bits: number): Control {
  const here = LEVELS[at] as Level & { from: number };
  const above = LEVELS[at - 1];
  const low = bits < here.from;
  const high = above !== undefined && bits > above.from * ROOM;
  const next = low ? Math.min(run, 0) - 1 : high ? Math.max(run, 0) + 1 : 0;
  if (next <= -DOWN_AFTER) return { at: at + 1, run: 0 };
  if (next >= UP_AFTER) return { at: at - 1, run: 0 };
  return { at, run: next };
}

export function levelOf({ at }: Control): Level {
  const { quality, compression } = LEVELS[at] as Level;
  return { quality, compression };
}

/** Messages that come closer together than this belong to one burst. */
const BURST_GAP_MS = 40;
/** A burst of less says nothing about the bandwidth. */
const BURST_BYTES = 48 * 1024;
/** A long burst is measured in pieces. */
const BURST_MOST_MS = 1_000;

/** Makes measurements of arriving messages. */
export class Meter {
  #began = 0;
  #last = -Infinity;
  #bytes = 0;

  /** Takes in a message of `bytes` at `now` (milliseconds); gives bits per second when a burst is over. */
  add(bytes: number, now: number): number | null {
    let measured: number | null = null;
    if (now - this.#last > BURST_GAP_MS || now - this.#began > BURST_MOST_MS) {
      const ms = this.#last - this.#began;
      if (this.#bytes >= BURST_BYTES && ms > 0) measured = (this.#bytes * 8000) / ms;
      // The first message of a burst was on its way before the burst began: only what follows it counts.
      this.#began = now;
      this.#bytes = 0;
    } else {
      this.#bytes += bytes;
    }
    this.#last = now;
    return measured;
  }
}
