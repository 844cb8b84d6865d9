/** When a session ends, and what is said about it when. Pure: the time is an argument. */
import type { Session } from '../../api/types';

const MINUTE = 60_000;
/** The time that is left is shown from here on. */
export const WARN_MS = 10 * MINUTE;
/** From here on it is shown so that nobody overlooks it. */
export const URGENT_MS = 2 * MINUTE;
/** What is read out, in minutes. */
const READ_OUT = [10, 2, 1];

export interface Deadline {
  /** `idle`: it ends unless there is input. */
  kind: 'expires' | 'idle';
  left: number;
  urgent: boolean;
}

/** The end of a session that is near; null while none is. An idle session is warned of when half of its time is over at the earliest. */
export function deadline(session: Session | null, now: number): Deadline | null {
  if (session?.status !== 'active') return null;
  const left = (at: string | null | undefined) => (at ? Math.max(0, Date.parse(at) - now) : Infinity);
  const [expires, idle] = [left(session.expires_at), left(session.idle_ends_at)];
  const idleWarn = Math.min(WARN_MS, ((session.idle_timeout_seconds ?? 0) * 1000) / 2);
  const kind = idle <= idleWarn && idle < expires ? 'idle' : 'expires';
  const soonest = kind === 'idle' ? idle : expires;
  return soonest <= WARN_MS ? { kind, left: soonest, urgent: soonest <= URGENT_MS } : null;
}

/** Whole minutes that are left, rounded up; what is read out and in the title. */
export const minutesLeft = (left: number) => Math.ceil(left / MINUTE);

/** Decides what is read out: each threshold once, unless the end has moved away in between. */
export class ReadOut {
  #last = Infinity;
  #kind: Deadline['kind'] | null = null;

  /** The minutes to read out now; null for nothing. */
  next(end: Deadline | null): number | null {
    if (!end || end.kind !== this.#kind) this.#last = Infinity;
    this.#kind = end?.kind ?? null;
    if (!end) return null;
    const minutes = minutesLeft(end.left);
    const reached = READ_OUT.filter((threshold) => minutes <= threshold);
    const threshold = reached[reached.length - 1] ?? Infinity;
    // Moved away, by an extension or by input: later thresholds count again.
    if (threshold > this.#last) this.#last = threshold;
    if (threshold >= this.#last && this.#last !== Infinity) return null;
    if (threshold === Infinity) return null;
    this.#last = threshold;
    return minutes;
  }
}
