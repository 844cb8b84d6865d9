//! The gateway as the server of a browser: RFB 3.8, security type None, for whoever holds a stream
//! has proved itself before.
//!
//! Only 3.8 is spoken: the page that connects is ours, and its client (noVNC) answers 3.8.

use super::{Input, Progress, RfbError, Step, VERSION_3_8, drive, security, version};

/// What is due next from the browser.
#[derive(Clone, Copy, Debug)]
enum State {
    Version,
    Choice,
    Init,
    /// Over, well or not.
    Finished,
}

/// Server side of the handshake.
#[derive(Debug)]
pub struct ServerHandshake {
    state: State,
}

impl ServerHandshake {
    /// Begins: the server speaks first.
    #[must_use]
    pub fn start(reply: &mut Vec<u8>) -> Self {
        reply.extend_from_slice(VERSION_3_8);
        Self { state: State::Version }
    }

    /// Takes what has arrived and was not consumed yet; appends to `reply` what must be sent now.
    ///
    /// # Errors
    /// [`RfbError`] when the browser speaks something else. The machine is spent then.
    pub fn advance(&mut self, input: &[u8], reply: &mut Vec<u8>) -> Result<Progress, RfbError> {
        let progress = drive(input, |input| self.step(input, reply));
        if !matches!(progress, Ok(Progress { done: false, .. })) {
            self.state = State::Finished;
        }
        progress
    }

    fn step(&mut self, input: &mut Input<'_>, reply: &mut Vec<u8>) -> Result<Step, RfbError> {
        match self.state {
            State::Version => {
                match version(input)? {
                    None => return Ok(Step::Wait),
                    Some((3, 8)) => reply.extend_from_slice(&[1, security::NONE]),
                    Some((major, minor)) => return Err(RfbError::Version { major, minor }),
                }
                self.state = State::Choice;
                Ok(Step::Next)
            }
            State::Choice => match input.array() {
                None => Ok(Step::Wait),
                Some([security::NONE]) => {
                    // SecurityResult "OK" (section 7.1.3).
                    reply.extend_from_slice(&0_u32.to_be_bytes());
                    self.state = State::Init;
                    Ok(Step::Next)
                }
                Some([other]) => Err(RfbError::InvalidValue {
                    what: "chosen security type",
                    value: other.into(),
                }),
            },
            // Whether to share the desktop is not the browser's to say.
            State::Init => Ok(input.array::<1>().map_or(Step::Wait, |_| Step::Done)),
            State::Finished => Err(RfbError::AlreadyFinished),
        }
    }
}
