//! Recognizes input among the PDUs of a browser (2.2.8.1): keys and pointer, as opposed to
//! acknowledgements and messages of channels. Nothing is held back; bytes that are no PDU are passed
//! over until the next chunk.

use super::frame::{Framer, Kind, Measure};

/// Bytes of a PDU that suffice to recognize slow-path input: TPKT, X.224 and MCS (15), share control
/// and share data up to the type (15).
const MAX_HEAD: usize = 30;
/// MCS Send Data Request (T.125), in the place where X.224 data begins.
const SEND_DATA_REQUEST: u8 = 0x64;
/// The share control PDU that carries data (2.2.8.1.1.1.1).
const DATA_PDU: u8 = 7;
/// The share data PDU that carries input (2.2.8.1.1.1.2).
const INPUT_PDU: u8 = 28;

/// Position in the browser's PDUs.
#[derive(Debug, Default)]
pub struct InputDetector {
    framer: Framer,
    head: Vec<u8>,
    /// Bytes of the present PDU that are still to come.
    body: usize,
}

impl InputDetector {
    /// Whether input begins in these bytes.
    pub fn feed(&mut self, chunk: &[u8]) -> bool {
        let (mut rest, mut found) = (chunk, false);
        loop {
            let skipped = self.body.min(rest.len());
            rest = rest.get(skipped..).unwrap_or_default();
            self.body -= skipped;
            let Some((&next, tail)) = rest.split_first() else { return found };
            rest = tail;
            self.head.push(next);
            match self.framer.measure(&self.head) {
                Ok(Measure::Need(_)) => continue,
                Ok(Measure::Known(frame)) => {
                    let decided = match frame.kind {
                        Kind::FastPath => Some(true),
                        Kind::Tpkt | Kind::CredSsp => (self.head.len()
                            >= MAX_HEAD.min(frame.length))
                        .then(|| is_slow_path_input(&self.head)),
                    };
                    let Some(is_input) = decided else { continue };
                    self.body = frame.length.saturating_sub(self.head.len());
                    found |= is_input;
                }
                Err(_) => {
                    self.head.clear();
                    return found;
                }
            }
            self.head.clear();
        }
    }
}

fn is_slow_path_input(head: &[u8]) -> bool {
    if head.get(7) != Some(&SEND_DATA_REQUEST) {
        return false;
    }
    // The length of the user data has one byte, or two with the top bit set.
    let share = if head.get(13).is_some_and(|length| length & 0x80 != 0) { 15 } else { 14 };
    let kind = head.get(share + 2).map(|kind| kind & 0x0f);
    kind == Some(DATA_PDU) && head.get(share + 14) == Some(&INPUT_PDU)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow_path(kind: u8, two_length_bytes: bool) -> Vec<u8> {
        let mut share = vec![0, 0, 0x17, 0, 0xea, 0x03, 1, 0, 1, 0, 0, 1, 0, 0, kind, 0, 0, 0];
        share.extend([0; 16]);
        let mut pdu = vec![3, 0, 0, 0, 2, 0xf0, 0x80, SEND_DATA_REQUEST, 0, 6, 3, 0xeb, 0x70];
        if two_length_bytes {
            pdu.push(0x80);
        }
        pdu.push(u8::try_from(share.len()).unwrap());
        pdu.extend(share);
        let length = u16::try_from(pdu.len()).unwrap().to_be_bytes();
        pdu[2..4].copy_from_slice(&length);
        pdu
    }

    #[test]
    fn input_is_recognized_in_both_framings() {
        let fast = vec![0x04, 8, 0x20, 0, 1, 0, 1, 0];
        for input in [fast, slow_path(INPUT_PDU, false), slow_path(INPUT_PDU, true)] {
            let mut detector = InputDetector::default();
            assert!(detector.feed(&input), "{input:?}");
            let parts = input.iter().filter(|byte| detector.feed(&[**byte])).count();
            assert_eq!(parts, 1, "{input:?} is one input, byte by byte");
        }
    }

    #[test]
    fn other_pdus_are_no_input() {
        let mut detector = InputDetector::default();
        // Frame acknowledgement, suppress output, and a message of a channel.
        let mut channel = slow_path(0, false);
        channel[16..].fill(0);
        for other in [slow_path(56, true), slow_path(35, false), channel] {
            assert!(!detector.feed(&other), "{other:?}");
            let all = [other.clone(), other.clone()].concat();
            assert!(!all.iter().any(|byte| detector.feed(&[*byte])), "byte by byte");
            let both = [other, vec![0x04, 8, 0x20, 0, 1, 0, 1, 0]].concat();
            assert!(detector.feed(&both), "input behind it");
        }
    }

    #[test]
    fn bytes_that_are_no_pdu_are_passed_over() {
        let mut detector = InputDetector::default();
        assert!(!detector.feed(&[0x05, 0, 0, 0]));
        assert!(detector.feed(&[0x04, 4, 0x20, 0]), "the next chunk is read again");
    }
}
