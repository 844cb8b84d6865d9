//! Log lines of this process while tests run, for tests that search them for secrets.

use portcullis::telemetry::{Format, subscriber};
use std::io;
use std::sync::{Mutex, Once};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct Collect;

impl io::Write for Collect {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Collects every line from now on, at level TRACE of all crates.
pub fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        use tracing_subscriber::util::SubscriberInitExt as _;
        subscriber(Format::Json, "trace", || Collect)
            .unwrap()
            .try_init()
            .expect("no other test sets up logs");
    });
}

/// All lines collected so far.
pub fn collected() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap()).into_owned()
}
