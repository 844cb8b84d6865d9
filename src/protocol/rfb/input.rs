//! Recognizes input among the messages of a browser (section 7.5): keys, pointer and clipboard text,
//! as opposed to requests for pictures. Nothing is held back; an unknown message is passed over until
//! the next chunk, since a browser sends each message whole.

/// Bytes of a message that always suffice to tell its length: `SetDesktopSize`, `ClientCutText`.
const MAX_HEAD: usize = 9;

/// Position in the browser's messages.
#[derive(Debug, Default)]
pub struct InputDetector {
    head: [u8; MAX_HEAD],
    /// Bytes in `head`.
    held: usize,
    /// Bytes of the present message that are still to come.
    body: u64,
}

/// A message by its first bytes.
enum Measured {
    NeedMore,
    Known { length: u64, is_input: bool },
    Unknown,
}

impl InputDetector {
    /// Whether input begins in these bytes.
    pub fn feed(&mut self, chunk: &[u8]) -> bool {
        let (mut rest, mut found) = (chunk, false);
        loop {
            let skipped = usize::try_from(self.body).unwrap_or(usize::MAX).min(rest.len());
            rest = rest.get(skipped..).unwrap_or_default();
            self.body -= skipped as u64;
            let Some((&next, tail)) = rest.split_first() else { return found };
            rest = tail;
            if let Some(slot) = self.head.get_mut(self.held) {
                *slot = next;
                self.held += 1;
            }
            match measure(self.head.get(..self.held).unwrap_or_default()) {
                Measured::NeedMore => {}
                Measured::Known { length, is_input } => {
                    self.body = length.saturating_sub(self.held as u64);
                    self.held = 0;
                    found |= is_input;
                }
                Measured::Unknown => {
                    self.held = 0;
                    return found;
                }
            }
        }
    }
}

fn measure(head: &[u8]) -> Measured {
    let known = |length, is_input| Measured::Known { length, is_input };
    match *head {
        // SetPixelFormat
        [0, ..] => known(20, false),
        // SetEncodings
        [2, _, high, low, ..] => known(4 + 4 * u64::from(u16::from_be_bytes([high, low])), false),
        // FramebufferUpdateRequest, EnableContinuousUpdates
        [3 | 150, ..] => known(10, false),
        // KeyEvent
        [4, ..] => known(8, true),
        // PointerEvent; with the top bit of the mask set it has a byte more (ExtendedMouseButtons).
        [5, mask, ..] => known(if mask & 0x80 == 0 { 6 } else { 7 }, true),
        // ClientCutText; a negative length is that of an extended message.
        [6, _, _, _, a, b, c, d, ..] => {
            known(8 + u64::from(i32::from_be_bytes([a, b, c, d]).unsigned_abs()), true)
        }
        // ClientFence
        [248, _, _, _, _, _, _, _, length, ..] => known(9 + u64::from(length), false),
        // xvp
        [250, ..] => known(4, false),
        // SetDesktopSize
        [251, _, _, _, _, _, screens, ..] => known(8 + 16 * u64::from(screens), false),
        // QEMU's extended key event
        [255, 0, ..] => known(12, true),
        [2 | 5 | 6 | 248 | 251 | 255] => Measured::NeedMore,
        [2 | 6 | 248 | 251, ..] if head.len() < MAX_HEAD => Measured::NeedMore,
        [] => Measured::NeedMore,
        _ => Measured::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_text(text: &[u8]) -> Vec<u8> {
        let mut message = vec![6, 0, 0, 0];
        message.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        message.extend(text);
        message
    }

    /// Messages that nobody needs to be there for.
    fn idle() -> Vec<Vec<u8>> {
        let mut encodings = vec![2, 0, 0, 2];
        encodings.extend([0xff; 8]);
        let mut fence = vec![248, 0, 0, 0, 0, 0, 0, 1, 4];
        fence.extend([5; 4]);
        let mut size = vec![251, 0, 4, 0, 3, 0, 1, 0];
        size.extend([4; 16]);
        let mut format = vec![0; 20];
        format[4] = 32;
        vec![
            format,
            encodings,
            vec![3, 1, 4, 4, 4, 4, 4, 4, 4, 4],
            vec![150, 1, 5, 5, 5, 5, 5, 5, 5, 5],
            fence,
            vec![250, 0, 1, 4],
            size,
        ]
    }

    fn inputs() -> Vec<Vec<u8>> {
        vec![
            vec![4, 1, 0, 0, 0, 0, 0, 97],
            vec![5, 0, 1, 1, 1, 1],
            vec![5, 0x81, 1, 1, 1, 1, 1],
            cut_text(b"pasted"),
            vec![255, 0, 0, 1, 0, 0, 0, 97, 0, 0, 0, 30],
        ]
    }

    #[test]
    fn requests_for_pictures_are_no_input() {
        let mut detector = InputDetector::default();
        for message in idle() {
            assert!(!detector.feed(&message), "{message:?}");
        }
        let all = idle().concat();
        assert!(!detector.feed(&all), "several at once");
        for byte in all {
            assert!(!detector.feed(&[byte]), "byte by byte");
        }
    }

    #[test]
    fn keys_pointer_and_clipboard_are_input() {
        for input in inputs() {
            let mut detector = InputDetector::default();
            assert!(detector.feed(&input), "{input:?}");
            for before in idle() {
                assert!(!detector.feed(&before));
                assert!(detector.feed(&[before.clone(), input.clone()].concat()), "{before:?}");
                assert!(!detector.feed(&before), "{input:?} was passed over as a whole");
            }
            let parts = input.iter().filter(|byte| detector.feed(&[**byte])).count();
            assert_eq!(parts, 1, "{input:?} is one input, byte by byte");
        }
    }

    #[test]
    fn content_is_no_message() {
        let mut detector = InputDetector::default();
        assert!(detector.feed(&cut_text(&[4; 100])[..50]));
        assert!(!detector.feed(&[4; 58]), "the rest of the text");
        assert!(!detector.feed(&idle().concat()));
    }

    #[test]
    fn an_unknown_message_is_passed_over() {
        let mut detector = InputDetector::default();
        assert!(!detector.feed(&[99, 4, 4, 4, 4, 4, 4, 4, 4]));
        assert!(detector.feed(&[4, 1, 0, 0, 0, 0, 0, 97]), "the next chunk is read again");
    }
}
