/** Attributes a failure to a hop: browser to gateway, gateway to host, host to desktop. */
import { CLOSE } from './protocol';

export type Hop = 'gateway' | 'host' | 'desktop' | 'application';

export interface HopFailure {
  leg: Hop;
  /** The message of the gateway; empty when the gateway itself does not answer. */
  text: string;
}

/** Longest message shown (the size limit of a close reason). */
const TEXT_MAX = 123;

/**
 * The failed hop of a close frame. With 4002 the reason begins with the hop, `host:`, `desktop:` or `application:`. 1001
 * and `retry` name none. After 1006 the next API request shows whether the gateway answers.
 */
export function failureOf(code: number, reason: string): HopFailure | null {
  if (code === CLOSE.unreachable) {
    const [, leg, text] = /^(host|desktop|application):\s*(.*)$/s.exec(reason) ?? [];
    if (leg) return { leg: leg as Hop, text: (text ?? '').slice(0, TEXT_MAX) };
    return reason === 'retry' ? null : { leg: 'desktop', text: '' };
  }
  return null;
}
