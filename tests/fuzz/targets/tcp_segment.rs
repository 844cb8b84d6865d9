//! Parsing of TCP segments inside tunnels.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| portcullis_fuzz::tunnel::segment::run(bytes));
