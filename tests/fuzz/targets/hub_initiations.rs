//! The hub's gate for handshake initiations.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| portcullis_fuzz::tunnel::initiations::run(bytes));
