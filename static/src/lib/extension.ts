/** By how much a session is extended. */
import type { Session } from '../api/types';

const MINUTE = 60_000;
/** How much a session is extended by at once. */
const STEP_MS = 30 * MINUTE;

/** By how much the session can be extended now, at most half an hour; null when it cannot. */
export function extension(session: Session | null): number | null {
  if (!session?.extendable_until) return null;
  const room = Date.parse(session.extendable_until) - Date.parse(session.expires_at);
  return room >= 1000 ? Math.min(STEP_MS, room) : null;
}

/** As the API reads it. */
export const durationText = (ms: number) => (ms % MINUTE === 0 ? `${ms / MINUTE}m` : `${Math.floor(ms / 1000)}s`);
