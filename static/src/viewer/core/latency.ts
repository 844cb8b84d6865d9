/** One number for how it feels, and which half of the way makes it slow. */
export interface Latency {
  browser_ms?: number | null;
  host_ms?: number | null;
}
export interface Reading {
  totalMs: number;
  /** The leg that makes it slow, or null while nothing is slow. */
  slow: 'browser' | 'host' | null;
}

/** From here on a person feels it. */
const SLOW_MS = 100;

export function readLatency(latency: Latency | null | undefined): Reading | null {
  const browser = latency?.browser_ms ?? null;
  const host = latency?.host_ms ?? null;
  if (browser === null && host === null) return null;
  const total = (browser ?? 0) + (host ?? 0);
  const slow = total < SLOW_MS ? null : (browser ?? 0) >= (host ?? 0) ? 'browser' : 'host';
  return { totalMs: Math.max(1, Math.round(total)), slow };
}
