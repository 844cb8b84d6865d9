//! Filter of one direction: finds the PDUs in the chunks, asks a [`PduPolicy`] about each by its
//! first bytes, and outputs what may pass.
//!
//! The output is slices of the chunks, as few as possible: only the first bytes of a PDU that
//! arrived in pieces, and PDUs that the policy inspects whole, are copied.

use super::RdpError;
use super::frame::{Frame, Framer, Measure};
use bytes::{Bytes, BytesMut};

/// Bytes of a PDU that a policy sees at least, if the PDU has so many: TPKT, X.224 and MCS (15), a
/// virtual channel's chunk header (8), and the header of a clipboard or dynamic channel message
/// (8). Share control and share data take 15 and 18.
pub(super) const MIN_HEADER: usize = 36;

/// What to do with a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PduDecision {
    /// Forward it unchanged.
    Pass,
    Drop,
    /// Buffer it, then call [`PduPolicy::handle_buffered`].
    Buffer,
}

/// Decides on the PDUs of one direction.
pub(super) trait PduPolicy {
    /// Decides by a PDU's first bytes: all of it, or at least [`MIN_HEADER`].
    fn decide(&mut self, header: &[u8], frame: Frame) -> Result<PduDecision, RdpError>;
    /// Handles a buffered PDU and appends what is forwarded in its place.
    fn handle_buffered(&mut self, pdu: Bytes, out: &mut Vec<Bytes>) -> Result<(), RdpError>;
    /// Whether there are replies to send in this direction.
    fn has_pending(&self) -> bool;
    /// Appends the replies for this direction. Called between two PDUs only.
    fn flush_pending(&mut self, out: &mut Vec<Bytes>) -> Result<(), RdpError>;
}

/// Position in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Position {
    /// Before a PDU, or in its first bytes, which are buffered then.
    Start,
    /// In a forwarded PDU; so many bytes are still to come.
    Passing(usize),
    /// In a dropped PDU; so many bytes are still to come.
    Dropping(usize),
    /// In a PDU that is buffered until it is complete; its length.
    Buffering(usize),
}

#[derive(Debug)]
pub(super) struct DirectionFilter {
    position: Position,
    buffer: BytesMut,
    framer: Framer,
}

/// The forwarded runs of one chunk.
struct PassedRuns<'a> {
    chunk: &'a Bytes,
    /// Start of the current run.
    from: usize,
    /// Position in the chunk.
    pos: usize,
}

impl PassedRuns<'_> {
    fn rest(&self) -> &[u8] {
        self.chunk.get(self.pos..).unwrap_or_default()
    }

    /// Ends the current run, and begins the next one after `n` more bytes.
    fn end_run(&mut self, n: usize, out: &mut Vec<Bytes>) {
        if self.from < self.pos {
            out.push(self.chunk.slice(self.from..self.pos));
        }
        self.pos += n;
        self.from = self.pos;
    }
}

impl DirectionFilter {
    pub(super) fn new() -> Self {
        Self { position: Position::Start, buffer: BytesMut::new(), framer: Framer::new() }
    }

    /// Whether the output so far ends with a complete PDU.
    pub(super) fn is_at_boundary(&self) -> bool {
        !matches!(self.position, Position::Passing(_))
    }

    /// Whether nothing is buffered either: the next byte begins a PDU.
    pub(super) fn is_idle(&self) -> bool {
        self.position == Position::Start && self.buffer.is_empty()
    }

    /// Filters the next bytes; appends what may pass to `out`.
    pub(super) fn feed(
        &mut self,
        chunk: &Bytes,
        policy: &mut impl PduPolicy,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let mut runs = PassedRuns { chunk, from: 0, pos: 0 };
        let result = self.process(&mut runs, policy, out);
        // Also what passed before an error.
        runs.end_run(0, out);
        result?;
        if self.is_at_boundary() { policy.flush_pending(out) } else { Ok(()) }
    }

    fn process(
        &mut self,
        runs: &mut PassedRuns<'_>,
        policy: &mut impl PduPolicy,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        while runs.pos < runs.chunk.len() {
            match self.position {
                Position::Passing(left) => {
                    let n = left.min(runs.rest().len());
                    runs.pos += n;
                    self.position =
                        if n == left { Position::Start } else { Position::Passing(left - n) };
                }
                Position::Dropping(left) => {
                    let n = left.min(runs.rest().len());
                    runs.end_run(n, out);
                    self.position =
                        if n == left { Position::Start } else { Position::Dropping(left - n) };
                }
                Position::Buffering(length) => self.buffer_pdu(length, runs, policy, out)?,
                Position::Start if self.buffer.is_empty() => {
                    // In a stream that never pauses, PDU boundaries occur within chunks only.
                    if policy.has_pending() {
                        runs.end_run(0, out);
                        policy.flush_pending(out)?;
                    }
                    self.start_pdu(runs, policy, out)?;
                }
                Position::Start => self.continue_header(runs, policy, out)?,
            }
        }
        Ok(())
    }

    /// At the start of a PDU: decides by what the chunk has of it.
    fn start_pdu(
        &mut self,
        runs: &mut PassedRuns<'_>,
        policy: &mut impl PduPolicy,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let header = runs.rest();
        let Measure::Known(frame) = self.framer.measure(header)? else {
            self.buffer_rest(runs, out);
            return Ok(());
        };
        if header.len() < MIN_HEADER.min(frame.length) {
            self.buffer_rest(runs, out);
            return Ok(());
        }
        match policy.decide(header.get(..frame.length).unwrap_or(header), frame)? {
            PduDecision::Pass => self.position = Position::Passing(frame.length),
            PduDecision::Drop => self.position = Position::Dropping(frame.length),
            PduDecision::Buffer if header.len() >= frame.length => {
                let from = runs.pos;
                runs.end_run(frame.length, out);
                policy.handle_buffered(runs.chunk.slice(from..runs.pos), out)?;
                policy.flush_pending(out)?;
            }
            PduDecision::Buffer => {
                self.position = Position::Buffering(frame.length);
                self.buffer_rest(runs, out);
            }
        }
        Ok(())
    }

    /// Buffers the rest of the chunk.
    fn buffer_rest(&mut self, runs: &mut PassedRuns<'_>, out: &mut Vec<Bytes>) {
        self.buffer.extend_from_slice(runs.rest());
        runs.end_run(runs.rest().len(), out);
    }

    /// In the first bytes of a PDU that arrived in pieces: buffers no more than the decision needs,
    /// so that the rest is not copied.
    fn continue_header(
        &mut self,
        runs: &mut PassedRuns<'_>,
        policy: &mut impl PduPolicy,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let frame = loop {
            match self.framer.measure(&self.buffer)? {
                Measure::Known(frame) => break frame,
                Measure::Need(n) => {
                    self.buffer_up_to(n, runs, out);
                    if self.buffer.len() < n {
                        return Ok(());
                    }
                    // Measured again at once, so that an error is reported with its last byte, not
                    // with the next one.
                }
            }
        };
        let needed = MIN_HEADER.min(frame.length);
        if self.buffer.len() < needed {
            self.buffer_up_to(needed, runs, out);
            if self.buffer.len() < needed {
                return Ok(());
            }
        }
        let left = frame.length - self.buffer.len();
        match policy.decide(&self.buffer, frame)? {
            PduDecision::Pass => {
                out.push(self.buffer.split().freeze());
                self.position = if left == 0 { Position::Start } else { Position::Passing(left) };
            }
            PduDecision::Drop => {
                self.buffer.clear();
                self.position = if left == 0 { Position::Start } else { Position::Dropping(left) };
            }
            PduDecision::Buffer => {
                self.position = Position::Buffering(frame.length);
                self.buffer_pdu(frame.length, runs, policy, out)?;
            }
        }
        Ok(())
    }

    /// Buffers until `n` bytes are buffered, as far as the chunk has them.
    fn buffer_up_to(&mut self, n: usize, runs: &mut PassedRuns<'_>, out: &mut Vec<Bytes>) {
        let rest = runs.rest();
        let added = n.saturating_sub(self.buffer.len()).min(rest.len());
        self.buffer.extend_from_slice(rest.get(..added).unwrap_or_default());
        runs.end_run(added, out);
    }

    /// Buffers until a PDU is complete, then handles it.
    fn buffer_pdu(
        &mut self,
        length: usize,
        runs: &mut PassedRuns<'_>,
        policy: &mut impl PduPolicy,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        self.buffer_up_to(length, runs, out);
        if self.buffer.len() == length {
            self.position = Position::Start;
            policy.handle_buffered(self.buffer.split().freeze(), out)?;
            policy.flush_pending(out)?;
        }
        Ok(())
    }
}
