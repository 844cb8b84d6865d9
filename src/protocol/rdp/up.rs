//! What becomes of each PDU the client sends.

use super::channels::Role;
use super::frame::{Frame, Kind};
use super::lane::{Judge, Verdict};
use super::mcs::{self, Domain};
use super::refusal::Refused;
use super::rules::{Phase, Rules, check_fast_path};
use super::share::{self, ClientSays};
use super::{Direction, RdpError, gcc, info};
use bytes::Bytes;

/// What the client sends.
pub(super) struct Up<'a>(pub(super) &'a mut Rules);

impl Judge for Up<'_> {
    fn decide(&mut self, seen: &[u8], frame: Frame) -> Result<Verdict, RdpError> {
        let rules = &mut *self.0;
        if frame.kind == Kind::FastPath {
            if !rules.is_live() {
                return Err(RdpError::Unexpected("input"));
            }
            check_fast_path(seen)?;
            let looks = rules.policy.read_only;
            return Ok(if looks {
                rules.refuse(Refused::Input, Direction::Up, frame.length)
            } else {
                Verdict::Pass
            });
        }
        match (rules.phase, mcs::domain(seen, frame.length)?) {
            (_, Domain::Disconnect) => Ok(Verdict::Pass),
            (Phase::Start, Domain::ConnectInitial) => Ok(Verdict::Whole),
            // Some clients ask for their user without waiting for the server's response.
            (Phase::Connecting | Phase::Joining | Phase::Live { .. }, Domain::Setup) => {
                Ok(Verdict::Pass)
            }
            (Phase::Joining, Domain::Request(data)) if data.channel == rules.channels.io => {
                Ok(Verdict::Whole)
            }
            (Phase::Live { .. }, Domain::Request(data)) => {
                match rules.channels.role(data.channel) {
                    Role::Io if rules.policy.read_only => Ok(Verdict::Whole),
                    role @ (Role::Io
                    | Role::Message
                    | Role::Virtual(_)
                    | Role::Forbidden(_)
                    | Role::Unknown) => rules.elsewhere(seen, data, role, Direction::Up),
                }
            }
            (_, Domain::ConnectInitial) => Err(RdpError::Unexpected("MCS Connect-Initial")),
            (_, Domain::Setup) => Err(RdpError::Unexpected("MCS request")),
            (_, Domain::Request(_)) => Err(RdpError::Unexpected("data before Client Info")),
            (
                _,
                Domain::ConnectResponse
                | Domain::AttachConfirm(_)
                | Domain::Indication(_)
                | Domain::TransportDisconnect,
            ) => Err(RdpError::Unexpected("server's PDU")),
        }
    }

    fn whole(&mut self, pdu: Bytes, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        let rules = &mut *self.0;
        match (mcs::domain(&pdu, pdu.len())?, rules.phase) {
            (Domain::ConnectInitial, Phase::Start) => {
                let mut edited = Vec::from(pdu);
                rules.channels = gcc::edit_initial(&mut edited, rules.edits.core, rules.policy)?;
                rules.phase = Phase::Connecting;
                out.push(edited.into());
                Ok(())
            }
            (Domain::Request(data), Phase::Joining) => {
                if !info::is_info(pdu.get(data.at..).unwrap_or_default())? {
                    return Err(RdpError::Unexpected("data before Client Info"));
                }
                let credential = rules.edits.credential.take();
                // Compressed, a channel's data could not be read.
                let ours = info::rewrite(&pdu, data, credential.as_ref(), rules.policy.is_open())?;
                rules.phase = Phase::Live { licensing: true };
                // The owner wipes the bytes once they have been sent.
                out.push(Bytes::from_owner(ours));
                Ok(())
            }
            (Domain::Request(data), Phase::Live { licensing }) => {
                if let Role::Virtual(purpose) = rules.channels.role(data.channel) {
                    return rules.gather(pdu, data, purpose, Direction::Up, out);
                }
                match share::client_says(pdu.get(data.at..).unwrap_or_default(), licensing) {
                    ClientSays::Harmless => out.push(pdu),
                    ClientSays::Ready => {
                        rules.phase = Phase::Live { licensing: false };
                        out.push(pdu);
                    }
                    ClientSays::Input => {
                        rules.refusals.add(Refused::Input, Direction::Up, data.length)
                    }
                }
                Ok(())
            }
            (_, _) => Err(RdpError::Unexpected("PDU")),
        }
    }

    fn owes(&self) -> bool {
        self.0.owes(Direction::Up)
    }

    fn speak(&mut self, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        self.0.speak(Direction::Up, out)
    }
}
