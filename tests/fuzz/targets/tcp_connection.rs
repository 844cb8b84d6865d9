//! One TCP connection that receives arbitrary segments.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| portcullis_fuzz::tunnel::connection::run(bytes));
