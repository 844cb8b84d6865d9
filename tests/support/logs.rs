//! What the process logs while tests run, for the tests that look for what must not be there.

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

/// Collects every line from now on, at the finest level of ours and of everybody else's.
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

/// All that was logged.
pub fn collected() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap()).into_owned()
}
