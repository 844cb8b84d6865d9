/**
 * What an RDP server does with Unicode input, by the Input Capability Set of its Demand Active PDU (MS-RDPBCGR 2.2.7.1.6),
 * which IronRDP reads but does not report.
 */

/**
 * `unicode`: takes every character. `layout`: announces Unicode, and looks each character up in the layout it was told
 * (xrdp). `scancodes`: takes keys only (FreeRDP's shadow server).
 */
export type ServerInput = 'unicode' | 'layout' | 'scancodes';

const DEMAND_ACTIVE = 1;
const CAPABILITY_INPUT = 13;
const FASTPATH_INPUT = 0x08;
const UNICODE = 0x10;
const FASTPATH_INPUT2 = 0x20;
/** TPKT and X.224 headers, MCS Send Data Indication up to its length (T.125). */
const MCS_AT = 7;
const SEND_DATA_INDICATION = 0x68;

/** Undefined when the bytes are not a Demand Active PDU. */
export function serverInputOf(pdu: Uint8Array): ServerInput | undefined {
  const view = new DataView(pdu.buffer, pdu.byteOffset, pdu.byteLength);
  const u16 = (at: number) => (at >= 0 && at + 2 <= view.byteLength ? view.getUint16(at, true) : 0);
  if (pdu[0] !== 3 || pdu[MCS_AT] !== SEND_DATA_INDICATION) return undefined;
  // Initiator, channel, priority; then the length in one or two bytes.
  const length = MCS_AT + 6;
  const control = length + ((pdu[length] ?? 0) & 0x80 ? 2 : 1);
  if ((u16(control + 2) & 0x0f) !== DEMAND_ACTIVE) return undefined;
  const descriptor = u16(control + 10);
  let at = control + 14 + descriptor + 4;
  for (let left = u16(control + 14 + descriptor); left > 0; left -= 1) {
    const size = u16(at + 2);
    if (size < 4) return undefined;
    if (u16(at) === CAPABILITY_INPUT) {
      const flags = u16(at + 4);
      if (!(flags & UNICODE)) return 'scancodes';
      // Windows announces the later kind of fast-path input only, and FreeRDP repeats the layout; xrdp does neither.
      return flags & FASTPATH_INPUT && flags & FASTPATH_INPUT2 && u16(at + 8) === 0 ? 'layout' : 'unicode';
    }
    at += size;
  }
  return undefined;
}
