/** The latency shown in the toolbar, and the slow hop. */
export interface Latency {
  browser_ms?: number | null;
  host_ms?: number | null;
  /** The slow hop, as the gateway determined it by a threshold per hop. */
  slow_leg?: 'browser_gateway' | 'gateway_host' | 'host_desktop' | null;
}
export interface Reading {
  totalMs: number;
  slow: NonNullable<Latency['slow_leg']> | null;
}

export function readLatency(latency: Latency | null | undefined): Reading | null {
  const browser = latency?.browser_ms ?? null;
  const host = latency?.host_ms ?? null;
  if (browser === null && host === null) return null;
  return { totalMs: Math.max(1, Math.round((browser ?? 0) + (host ?? 0))), slow: latency?.slow_leg ?? null };
}
