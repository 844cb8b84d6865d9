//! An RDP conversation through the filter: the same output however it is split, and no input passes
//! under the strictest policy.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::rdp::filter::{Edits, Filter};
use portcullis_fuzz::protocol::rdp::frame::{Framer, Measure};
use portcullis_fuzz::protocol::rdp::gcc::CoreEdits;
use portcullis_fuzz::protocol::rdp::info::Credential;
use portcullis_fuzz::protocol::rdp::{Clipboard, Policy, RdpError};
use portcullis_fuzz::{Direction, conversation};

#[derive(Default, PartialEq, Debug)]
struct Outcome {
    up: Vec<u8>,
    down: Vec<u8>,
    error: Option<RdpError>,
}

fn play(policy: Policy, conversation: &[(Direction, &[u8])], piece: usize) -> Outcome {
    let credential = Credential { domain: "CORP".into(), user: "ada".into(), password: "geheim".to_owned().into() };
    let mut filter = Filter::new(policy, Edits { core: CoreEdits { selected: 2, keyboard_layout: None }, credential: Some(credential) });
    let mut outcome = Outcome::default();
    for (direction, pdu) in conversation {
        for chunk in pdu.chunks(piece) {
            let mut collect = |direction: Direction, out: Vec<Bytes>| match direction {
                Direction::Up => outcome.up.extend(out.concat()),
                Direction::Down => outcome.down.extend(out.concat()),
            };
            let mut out = Vec::new();
            let result = filter.feed(*direction, &Bytes::copy_from_slice(chunk), &mut out);
            collect(*direction, out);
            let (opposite, mut out) = (direction.opposite(), Vec::new());
            if filter.has_pending(opposite) && filter.flush_pending(opposite, &mut out).is_ok() {
                collect(opposite, out);
            }
            if let Err(error) = result {
                outcome.error = Some(error);
                return outcome;
            }
            let _ = filter.refusals();
        }
    }
    outcome
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let clipboard = [Clipboard::None, Clipboard::In, Clipboard::Out, Clipboard::Both][usize::from(choice & 3)];
    let policy = Policy { clipboard, files: choice & 4 == 4, read_only: choice & 8 == 8 };
    let conversation = conversation(bytes);
    let whole = play(policy, &conversation, usize::MAX);
    let pieces = play(policy, &conversation, 1 + usize::from(choice >> 4));
    if policy.is_open() {
        // Upward, an unrestricted filter stops parsing at the first chunk boundary after the setup:
        // whether invalid bytes after that are an error depends on the chunks, what passed does not.
        for (whole, pieces) in [(&whole.up, &pieces.up), (&whole.down, &pieces.down)] {
            let common = whole.len().min(pieces.len());
            assert_eq!(whole[..common], pieces[..common]);
        }
    } else {
        assert_eq!(whole, pieces);
    }
    if policy.read_only {
        let mut rest = &whole.up[..];
        while let Ok(Measure::Known(frame)) = Framer::new().measure(rest) {
            let Some((pdu, after)) = rest.split_at_checked(frame.length) else { break };
            assert_eq!(pdu[0], 3, "fast-path input of one that only looks");
            rest = after;
        }
    }
});
