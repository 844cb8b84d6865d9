//! Counts a browser's input beside the filter of its bytes. What policy then refuses counts, too: its
//! user is there.

use super::stream_filter::{Filtered, StreamFilter, StreamFilterError};
use crate::broker::core::input_counter::InputCounter;
use bytes::Bytes;

/// Whether input begins in a chunk of a protocol's bytes.
pub(super) trait DetectInput: Send {
    fn feed(&mut self, chunk: &[u8]) -> bool;
}

impl DetectInput for crate::protocol::rfb::input::InputDetector {
    fn feed(&mut self, chunk: &[u8]) -> bool {
        Self::feed(self, chunk)
    }
}

impl DetectInput for crate::protocol::rdp::input::InputDetector {
    fn feed(&mut self, chunk: &[u8]) -> bool {
        Self::feed(self, chunk)
    }
}

/// A filter of the browser's bytes that counts input.
pub(super) struct CountedInput<'a, F, D> {
    filter: F,
    detector: D,
    counter: &'a InputCounter,
}

impl<'a, F, D: Default> CountedInput<'a, F, D> {
    pub(super) fn new(filter: F, counter: &'a InputCounter) -> Self {
        Self { filter, detector: D::default(), counter }
    }
}

impl<F: StreamFilter, D: DetectInput> StreamFilter for CountedInput<'_, F, D> {
    const PASS_THROUGH: bool = F::PASS_THROUGH;
    const REPLIES: bool = F::REPLIES;

    fn feed(&mut self, chunk: Bytes, passed: &mut Filtered) -> Result<(), StreamFilterError> {
        if self.detector.feed(&chunk) {
            self.counter.record();
        }
        self.filter.feed(chunk, passed)
    }

    fn at_message_boundary(&self) -> bool {
        self.filter.at_message_boundary()
    }
}
