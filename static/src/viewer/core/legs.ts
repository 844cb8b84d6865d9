/** Which part of the way a failure belongs to: you to gateway, gateway to host, host to desktop. */
import { CLOSE } from './protocol';

export type Leg = 'gateway' | 'host' | 'desktop' | 'application';

export interface Trouble {
  leg: Leg;
  /** What the gateway says about it; empty when it is the gateway that does not answer. */
  text: string;
}

/** Sentences of the gateway longer than this are not shown. */
const TEXT_MOST = 123;

/**
 * What a close frame tells about the way. The gateway reached nothing (4002): its reason begins with the leg,
 * `host:`, `desktop:` or `application:`. It goes down or asks to come again (1001, `retry`): no leg is to blame.
 * What ended without a word (1006) shows at the next question whether the gateway answers.
 */
export function troubleOf(code: number, reason: string): Trouble | null {
  if (code === CLOSE.unreachable) {
    const [, leg, text] = /^(host|desktop|application):\s*(.*)$/s.exec(reason) ?? [];
    if (leg) return { leg: leg as Leg, text: (text ?? '').slice(0, TEXT_MOST) };
    return reason === 'retry' ? null : { leg: 'desktop', text: '' };
  }
  return null;
}
