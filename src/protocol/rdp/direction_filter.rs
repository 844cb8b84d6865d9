//! One direction of the stream: finds the PDUs in what arrives, asks a [`PduPolicy`] about each by its
//! first bytes, and puts out what may pass.
//!
//! What passes is put out as slices of the chunk it came in, as few as can be: nothing is copied
//! but the first bytes of a PDU that arrived in pieces, and PDUs the judge wants to see whole.

use super::RdpError;
use super::frame::{Frame, Framer, Measure};
use bytes::{Bytes, BytesMut};

/// Bytes of a PDU that a judge sees at least, if the PDU has so many: TPKT, X.224 and MCS (15), a
/// virtual channel's chunk header (8), and the header of the clipboard's or of a dynamic channel's
/// message (8). Share control and share data take 15 and 18.
pub(super) const MIN_HEADER: usize = 36;

/// What is to become of a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PduDecision {
    /// It passes, untouched.
    Pass,
    /// It does not.
    Drop,
    /// It must be seen whole before it can be told.
    Buffer,
}

/// Decides.
pub(super) trait PduPolicy {
    /// Decides by a PDU's first bytes: all, or at least [`MIN_HEADER`].
    fn decide(&mut self, seen: &[u8], frame: Frame) -> Result<PduDecision, RdpError>;
    /// Takes a PDU it wanted whole, and puts out what takes its place.
    fn handle_buffered(&mut self, pdu: Bytes, out: &mut Vec<Bytes>) -> Result<(), RdpError>;
    /// Whether the filter itself has something to say in this direction.
    fn has_pending(&self) -> bool;
    /// Puts out what the filter itself has to say in this direction, if anything. Asked between two
    /// PDUs only.
    fn flush_pending(&mut self, out: &mut Vec<Bytes>) -> Result<(), RdpError>;
}

/// Where in the stream the lane is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Position {
    /// Before a PDU, or in its first bytes, which are kept then.
    Start,
    /// In one that passes; so many bytes are still to come.
    Passing(usize),
    /// In one that does not.
    Dropping(usize),
    /// In one that is kept until it is whole; its length.
    Buffering(usize),
}

/// One direction.
#[derive(Debug)]
pub(super) struct DirectionFilter {
    position: Position,
    buffer: BytesMut,
    framer: Framer,
}

/// What passes of one chunk, as runs.
struct PassedRuns<'a> {
    chunk: &'a Bytes,
    /// Where the current run began.
    from: usize,
    /// How far the chunk has been looked at.
    pos: usize,
}

impl PassedRuns<'_> {
    fn rest(&self) -> &[u8] {
        self.chunk.get(self.pos..).unwrap_or_default()
    }

    /// Ends the current run, and begins the next behind `n` more bytes.
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

    /// Whether what was put out so far ends with a whole PDU.
    pub(super) fn is_at_boundary(&self) -> bool {
        !matches!(self.position, Position::Passing(_))
    }

    /// Whether nothing is kept back either: the next byte begins a PDU.
    pub(super) fn is_idle(&self) -> bool {
        self.position == Position::Start && self.buffer.is_empty()
    }

    /// Takes the next bytes; appends what may pass to `out`.
    pub(super) fn feed(
        &mut self,
        chunk: &Bytes,
        judge: &mut impl PduPolicy,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let mut runs = PassedRuns { chunk, from: 0, pos: 0 };
        let walked = self.walk(&mut runs, judge, out);
        // Also what passed before an error.
        runs.end_run(0, out);
        walked?;
        if self.is_at_boundary() { judge.flush_pending(out) } else { Ok(()) }
    }

    fn walk(
        &mut self,
        runs: &mut PassedRuns<'_>,
        judge: &mut impl PduPolicy,
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
                Position::Buffering(length) => self.buffer_pdu(length, runs, judge, out)?,
                Position::Start if self.buffer.is_empty() => {
                    // A stream that never rests has its PDUs' ends within chunks.
                    if judge.has_pending() {
                        runs.end_run(0, out);
                        judge.flush_pending(out)?;
                    }
                    self.start_pdu(runs, judge, out)?;
                }
                Position::Start => self.continue_header(runs, judge, out)?,
            }
        }
        Ok(())
    }

    /// At the start of a PDU: decides by what the chunk has of it.
    fn start_pdu(
        &mut self,
        runs: &mut PassedRuns<'_>,
        judge: &mut impl PduPolicy,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let seen = runs.rest();
        let Measure::Known(frame) = self.framer.measure(seen)? else {
            self.buffer_rest(runs, out);
            return Ok(());
        };
        if seen.len() < MIN_HEADER.min(frame.length) {
            self.buffer_rest(runs, out);
            return Ok(());
        }
        match judge.decide(seen.get(..frame.length).unwrap_or(seen), frame)? {
            PduDecision::Pass => self.position = Position::Passing(frame.length),
            PduDecision::Drop => self.position = Position::Dropping(frame.length),
            PduDecision::Buffer if seen.len() >= frame.length => {
                let from = runs.pos;
                runs.end_run(frame.length, out);
                judge.handle_buffered(runs.chunk.slice(from..runs.pos), out)?;
                judge.flush_pending(out)?;
            }
            PduDecision::Buffer => {
                self.position = Position::Buffering(frame.length);
                self.buffer_rest(runs, out);
            }
        }
        Ok(())
    }

    /// Keeps the rest of the chunk.
    fn buffer_rest(&mut self, runs: &mut PassedRuns<'_>, out: &mut Vec<Bytes>) {
        self.buffer.extend_from_slice(runs.rest());
        runs.end_run(runs.rest().len(), out);
    }

    /// In the first bytes of a PDU that arrived in pieces: takes no more than is needed to decide,
    /// so that the rest need not be copied.
    fn continue_header(
        &mut self,
        runs: &mut PassedRuns<'_>,
        judge: &mut impl PduPolicy,
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
                    // Measured again at once: what is wrong with it is told with its last byte, not
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
        match judge.decide(&self.buffer, frame)? {
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
                self.buffer_pdu(frame.length, runs, judge, out)?;
            }
        }
        Ok(())
    }

    /// Keeps bytes until `n` are kept, as far as the chunk has them.
    fn buffer_up_to(&mut self, n: usize, runs: &mut PassedRuns<'_>, out: &mut Vec<Bytes>) {
        let rest = runs.rest();
        let more = n.saturating_sub(self.buffer.len()).min(rest.len());
        self.buffer.extend_from_slice(rest.get(..more).unwrap_or_default());
        runs.end_run(more, out);
    }

    /// Keeps bytes until a PDU is whole, and has it judged then.
    fn buffer_pdu(
        &mut self,
        length: usize,
        runs: &mut PassedRuns<'_>,
        judge: &mut impl PduPolicy,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        self.buffer_up_to(length, runs, out);
        if self.buffer.len() == length {
            self.position = Position::Start;
            judge.handle_buffered(self.buffer.split().freeze(), out)?;
            judge.flush_pending(out)?;
        }
        Ok(())
    }
}
