//! The gateway as an RFB server of a browser: RFB 3.8, security type None, because the holder of a
//! stream was authenticated before.
//!
//! Only 3.8 is supported: the gateway's own page connects, and its client (noVNC) uses 3.8.

use super::{Input, Progress, RfbError, Step, VERSION_3_8, drive, security, version};

/// State of the handshake: what is due next from the browser.
#[derive(Clone, Copy, Debug)]
enum State {
    Version,
    Choice,
    Init,
    /// Finished or failed.
    Finished,
}

/// Server side of the handshake.
#[derive(Debug)]
pub struct ServerHandshake {
    state: State,
}

impl ServerHandshake {
    /// Begins the handshake: the server sends first.
    #[must_use]
    pub fn start(reply: &mut Vec<u8>) -> Self {
        reply.extend_from_slice(VERSION_3_8);
        Self { state: State::Version }
    }

    /// Processes input that was not consumed yet; appends to `reply` what must be sent now.
    ///
    /// # Errors
    /// [`RfbError`] when the browser violates the protocol. The handshake is finished then.
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
                match version::parse(input)? {
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
            // The browser does not decide whether the desktop is shared.
            State::Init => Ok(input.array::<1>().map_or(Step::Wait, |_| Step::Done)),
            State::Finished => Err(RfbError::AlreadyFinished),
        }
    }
}
