/**
 * Adapts image quality to the measured bandwidth: bytes of a burst divided by its duration. Steps down quickly and up only
 * with headroom, so that it does not oscillate between two levels.
 */
export interface Level {
  /** noVNC's `qualityLevel` (JPEG, 0 to 9). */
  quality: number;
  /** noVNC's `compressionLevel` (0 to 9). */
  compression: number;
}

/** Best first; `from` is the minimum bandwidth in bits per second. */
const LEVELS: readonly (Level & { from: number })[] = [
  { from: 30e6, quality: 8, compression: 1 },
  { from: 8e6, quality: 7, compression: 2 },
  { from: 3e6, quality: 6, compression: 4 },
  { from: 1e6, quality: 4, compression: 7 },
  { from: 0, quality: 2, compression: 9 },
];
export const SHARP: Level = { quality: 9, compression: 1 };
export const LIGHT: Level = { quality: 2, compression: 9 };

/** A step up needs this multiple of the level's bandwidth. */
const HEADROOM = 1.4;
/** Consecutive measurements before a step. */
const DOWN_AFTER = 2;
const UP_AFTER = 4;

export interface QualityState {
  /** Index into the levels; 0 is the best. */
  at: number;
  /** Consecutive measurements that point down (negative) or up (positive). */
  streak: number;
}

/** State before the first measurement. */
export const INITIAL: QualityState = { at: 1, streak: 0 };

/** The next state, given one more measurement in bits per second. */
export function adjust({ at, streak }: QualityState, bits: number): QualityState {
  const here = LEVELS[at] as Level & { from: number };
  const above = LEVELS[at - 1];
  const low = bits < here.from;
  const high = above !== undefined && bits > above.from * HEADROOM;
  const next = low ? Math.min(streak, 0) - 1 : high ? Math.max(streak, 0) + 1 : 0;
  if (next <= -DOWN_AFTER) return { at: at + 1, streak: 0 };
  if (next >= UP_AFTER) return { at: at - 1, streak: 0 };
  return { at, streak: next };
}

export function levelOf({ at }: QualityState): Level {
  const { quality, compression } = LEVELS[at] as Level;
  return { quality, compression };
}

/** Messages closer together than this are one burst. */
const BURST_GAP_MS = 40;
/** Smaller bursts are not measured. */
const BURST_BYTES = 48 * 1024;
/** Longer bursts are measured in parts. */
const BURST_MAX_MS = 1_000;

/** Measures bandwidth from message arrivals. */
export class Meter {
  #began = 0;
  #last = -Infinity;
  #bytes = 0;

  /** Records a message of `bytes` at `now` (ms); returns bits per second when a burst is complete. */
  add(bytes: number, now: number): number | null {
    let measured: number | null = null;
    if (now - this.#last > BURST_GAP_MS || now - this.#began > BURST_MAX_MS) {
      const ms = this.#last - this.#began;
      if (this.#bytes >= BURST_BYTES && ms > 0) measured = (this.#bytes * 8000) / ms;
      // The first message was sent before the burst began, so only the following ones count.
      this.#began = now;
      this.#bytes = 0;
    } else {
      this.#bytes += bytes;
    }
    this.#last = now;
    return measured;
  }
}
