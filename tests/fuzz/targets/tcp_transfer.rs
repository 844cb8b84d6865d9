//! Two TCP connections over an unreliable network.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| portcullis_fuzz::tunnel::transfer::run(bytes));
