/** When to try again: at once, then slower, never slower than two seconds. */
const FIRST_MS = 100;
const MOST_MS = 2_000;

/**
 * The pause before attempt number `attempt` (from 0). The random part keeps a thousand viewers from knocking at a
 * restarted gateway in the same millisecond. `random` is in [0, 1).
 */
export function backoff(attempt: number, random: number): number {
  const step = Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(step * (0.6 + 0.4 * random));
}
