//! RDP before the stream: negotiation and settings of both sides, in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::rdp::channels::{Channels, Purpose};
use portcullis_fuzz::protocol::rdp::frame::Framer;
use portcullis_fuzz::protocol::rdp::gcc::{self, CoreEdits};
use portcullis_fuzz::protocol::rdp::{Clipboard, Policy, x224};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let _ = x224::parse_request(bytes);
    if let Ok(confirm) = x224::parse_confirm(bytes, u32::from(choice & 3)) {
        let _ = x224::encode_confirm(confirm);
    }
    let _ = Framer::new().measure(bytes);
    let clipboard = if choice & 4 == 4 { Clipboard::Both } else { Clipboard::None };
    let policy = Policy { clipboard, files: choice & 8 == 8, read_only: choice & 16 == 16 };
    let mut edited = bytes.to_vec();
    let edits = CoreEdits { selected: 1, keyboard_layout: (choice & 32 == 32).then_some(0x407) };
    let channels = gcc::edit_initial(&mut edited, edits, policy);
    assert_eq!(edited.len(), bytes.len());
    if let Ok(channels) = channels {
        // An edited PDU can be parsed, and is not edited again.
        let mut again = edited.clone();
        assert!(gcc::edit_initial(&mut again, edits, policy).is_ok());
        if policy.clipboard == Clipboard::None {
            assert!(channels.with_purpose(Purpose::Clipboard).is_none());
        }
    }
    let _ = gcc::read_response(bytes, &mut Channels::default());
});
