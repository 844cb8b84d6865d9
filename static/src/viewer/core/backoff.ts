/** Exponential backoff with jitter, from 100 ms to 2 s. */
const FIRST_MS = 100;
const MAX_MS = 2_000;

/**
 * The pause before attempt number `attempt` (from 0). Jitter keeps many viewers from reconnecting to a
 * restarted gateway at the same moment. `random` is in [0, 1).
 */
export function backoff(attempt: number, random: number): number {
  const step = Math.min(MAX_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(step * (0.6 + 0.4 * random));
}
