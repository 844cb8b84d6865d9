//! One direction of the stream: finds the PDUs in what arrives, asks a [`Judge`] about each by its
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
pub(super) const SEEN: usize = 36;

/// What is to become of a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It passes, untouched.
    Pass,
    /// It does not.
    Drop,
    /// It must be seen whole before it can be told.
    Whole,
}

/// Decides.
pub(super) trait Judge {
    /// Decides by a PDU's first bytes: all, or at least [`SEEN`].
    fn decide(&mut self, seen: &[u8], frame: Frame) -> Result<Verdict, RdpError>;
    /// Takes a PDU it wanted whole, and puts out what takes its place.
    fn whole(&mut self, pdu: Bytes, out: &mut Vec<Bytes>) -> Result<(), RdpError>;
    /// Whether the filter itself has something to say in this direction.
    fn owes(&self) -> bool;
    /// Puts out what the filter itself has to say in this direction, if anything. Asked between two
    /// PDUs only.
    fn speak(&mut self, out: &mut Vec<Bytes>) -> Result<(), RdpError>;
}

/// Where in the stream the lane is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Before a PDU, or in its first bytes, which are kept then.
    Start,
    /// In one that passes; so many bytes are still to come.
    Passing(usize),
    /// In one that does not.
    Dropping(usize),
    /// In one that is kept until it is whole; its length.
    Keeping(usize),
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    at: At,
    kept: BytesMut,
    framer: Framer,
}

/// What passes of one chunk, as runs.
struct Runs<'a> {
    chunk: &'a Bytes,
    /// Where the current run began.
    from: usize,
    /// How far the chunk has been looked at.
    pos: usize,
}

impl Runs<'_> {
    fn rest(&self) -> &[u8] {
        self.chunk.get(self.pos..).unwrap_or_default()
    }

    /// Ends the current run, and begins the next behind `n` more bytes.
    fn cut(&mut self, n: usize, out: &mut Vec<Bytes>) {
        if self.from < self.pos {
            out.push(self.chunk.slice(self.from..self.pos));
        }
        self.pos += n;
        self.from = self.pos;
    }
}

impl Lane {
    pub(super) fn new() -> Self {
        Self { at: At::Start, kept: BytesMut::new(), framer: Framer::new() }
    }

    /// Whether what was put out so far ends with a whole PDU.
    pub(super) fn is_between(&self) -> bool {
        !matches!(self.at, At::Passing(_))
    }

    /// Whether nothing is kept back either: the next byte begins a PDU.
    pub(super) fn is_idle(&self) -> bool {
        self.at == At::Start && self.kept.is_empty()
    }

    /// Takes the next bytes; appends what may pass to `out`.
    pub(super) fn feed(
        &mut self,
        chunk: &Bytes,
        judge: &mut impl Judge,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let mut runs = Runs { chunk, from: 0, pos: 0 };
        let walked = self.walk(&mut runs, judge, out);
        // Also what passed before an error.
        runs.cut(0, out);
        walked?;
        if self.is_between() { judge.speak(out) } else { Ok(()) }
    }

    fn walk(
        &mut self,
        runs: &mut Runs<'_>,
        judge: &mut impl Judge,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        while runs.pos < runs.chunk.len() {
            match self.at {
                At::Passing(left) => {
                    let n = left.min(runs.rest().len());
                    runs.pos += n;
                    self.at = if n == left { At::Start } else { At::Passing(left - n) };
                }
                At::Dropping(left) => {
                    let n = left.min(runs.rest().len());
                    runs.cut(n, out);
                    self.at = if n == left { At::Start } else { At::Dropping(left - n) };
                }
                At::Keeping(length) => self.keep(length, runs, judge, out)?,
                At::Start if self.kept.is_empty() => {
                    // A stream that never rests has its PDUs' ends within chunks.
                    if judge.owes() {
                        runs.cut(0, out);
                        judge.speak(out)?;
                    }
                    self.look(runs, judge, out)?;
                }
                At::Start => self.look_again(runs, judge, out)?,
            }
        }
        Ok(())
    }

    /// At the start of a PDU: decides by what the chunk has of it.
    fn look(
        &mut self,
        runs: &mut Runs<'_>,
        judge: &mut impl Judge,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let seen = runs.rest();
        let Measure::Known(frame) = self.framer.measure(seen)? else {
            self.put_by(runs, out);
            return Ok(());
        };
        if seen.len() < SEEN.min(frame.length) {
            self.put_by(runs, out);
            return Ok(());
        }
        match judge.decide(seen.get(..frame.length).unwrap_or(seen), frame)? {
            Verdict::Pass => self.at = At::Passing(frame.length),
            Verdict::Drop => self.at = At::Dropping(frame.length),
            Verdict::Whole if seen.len() >= frame.length => {
                let from = runs.pos;
                runs.cut(frame.length, out);
                judge.whole(runs.chunk.slice(from..runs.pos), out)?;
                judge.speak(out)?;
            }
            Verdict::Whole => {
                self.at = At::Keeping(frame.length);
                self.put_by(runs, out);
            }
        }
        Ok(())
    }

    /// Keeps the rest of the chunk.
    fn put_by(&mut self, runs: &mut Runs<'_>, out: &mut Vec<Bytes>) {
        self.kept.extend_from_slice(runs.rest());
        runs.cut(runs.rest().len(), out);
    }

    /// In the first bytes of a PDU that arrived in pieces: takes no more than is needed to decide,
    /// so that the rest need not be copied.
    fn look_again(
        &mut self,
        runs: &mut Runs<'_>,
        judge: &mut impl Judge,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let frame = loop {
            match self.framer.measure(&self.kept)? {
                Measure::Known(frame) => break frame,
                Measure::Need(n) => {
                    self.add(n, runs, out);
                    if self.kept.len() < n {
                        return Ok(());
                    }
                    // Measured again at once: what is wrong with it is told with its last byte, not
                    // with the next one.
                }
            }
        };
        let needed = SEEN.min(frame.length);
        if self.kept.len() < needed {
            self.add(needed, runs, out);
            if self.kept.len() < needed {
                return Ok(());
            }
        }
        let left = frame.length - self.kept.len();
        match judge.decide(&self.kept, frame)? {
            Verdict::Pass => {
                out.push(self.kept.split().freeze());
                self.at = if left == 0 { At::Start } else { At::Passing(left) };
            }
            Verdict::Drop => {
                self.kept.clear();
                self.at = if left == 0 { At::Start } else { At::Dropping(left) };
            }
            Verdict::Whole => {
                self.at = At::Keeping(frame.length);
                self.keep(frame.length, runs, judge, out)?;
            }
        }
        Ok(())
    }

    /// Keeps bytes until `n` are kept, as far as the chunk has them.
    fn add(&mut self, n: usize, runs: &mut Runs<'_>, out: &mut Vec<Bytes>) {
        let rest = runs.rest();
        let more = n.saturating_sub(self.kept.len()).min(rest.len());
        self.kept.extend_from_slice(rest.get(..more).unwrap_or_default());
        runs.cut(more, out);
    }

    /// Keeps bytes until a PDU is whole, and has it judged then.
    fn keep(
        &mut self,
        length: usize,
        runs: &mut Runs<'_>,
        judge: &mut impl Judge,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        self.add(length, runs, out);
        if self.kept.len() == length {
            self.at = At::Start;
            judge.whole(self.kept.split().freeze(), out)?;
            judge.speak(out)?;
        }
        Ok(())
    }
}
