//! What becomes of each PDU the server sends.

use super::channels::Role;
use super::frame::{Frame, Kind};
use super::lane::{Judge, Verdict};
use super::mcs::{self, Domain};
use super::rules::{Phase, Rules, check_fast_path};
use super::share::{self, Glance};
use super::{Direction, RdpError, gcc};
use bytes::Bytes;

/// What the server sends.
pub(super) struct Down<'a>(pub(super) &'a mut Rules);

impl Judge for Down<'_> {
    fn decide(&mut self, seen: &[u8], frame: Frame) -> Result<Verdict, RdpError> {
        let rules = &mut *self.0;
        if frame.kind == Kind::FastPath {
            if !rules.is_live() {
                return Err(RdpError::Unexpected("picture"));
            }
            check_fast_path(seen)?;
            return Ok(Verdict::Pass);
        }
        match (rules.phase, mcs::domain(seen, frame.length)?) {
            (_, Domain::Disconnect | Domain::TransportDisconnect) => Ok(Verdict::Pass),
            (Phase::Connecting, Domain::ConnectResponse) => Ok(Verdict::Whole),
            (Phase::Joining | Phase::Live { .. }, Domain::Setup) => Ok(Verdict::Pass),
            (Phase::Joining, Domain::AttachConfirm(initiator)) => {
                rules.initiator = initiator.unwrap_or(rules.initiator);
                Ok(Verdict::Pass)
            }
            (Phase::Live { .. }, Domain::Indication(data)) => {
                match rules.channels.role(data.channel) {
                    Role::Io
                        if share::glance(seen.get(data.at..).unwrap_or_default(), data.length)
                            == Glance::Look =>
                    {
                        Ok(Verdict::Whole)
                    }
                    role @ (Role::Io
                    | Role::Message
                    | Role::Virtual(_)
                    | Role::Forbidden(_)
                    | Role::Unknown) => rules.elsewhere(seen, data, role, Direction::Down),
                }
            }
            (_, Domain::ConnectResponse) => Err(RdpError::Unexpected("MCS Connect-Response")),
            (_, Domain::Setup | Domain::AttachConfirm(_)) => {
                Err(RdpError::Unexpected("MCS confirmation"))
            }
            (_, Domain::Indication(_)) => Err(RdpError::Unexpected("data before Client Info")),
            (_, Domain::ConnectInitial | Domain::Request(_)) => {
                Err(RdpError::Unexpected("client's PDU"))
            }
        }
    }

    fn whole(&mut self, pdu: Bytes, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        let rules = &mut *self.0;
        match mcs::domain(&pdu, pdu.len())? {
            Domain::ConnectResponse => {
                gcc::read_response(&pdu, &mut rules.channels)?;
                rules.phase = Phase::Joining;
                out.push(pdu);
                Ok(())
            }
            Domain::Indication(data) => {
                if let Role::Virtual(purpose) = rules.channels.role(data.channel) {
                    return rules.gather(pdu, data, purpose, Direction::Down, out);
                }
                let user_data = pdu.get(data.at..).unwrap_or_default();
                if let Some(said) = share::check(user_data)? {
                    rules.error_info = said;
                }
                let Some(whole) = share::complete(user_data) else {
                    out.push(pdu);
                    return Ok(());
                };
                let mut bytes = Vec::new();
                mcs::write_send_data(&mut bytes, false, data.initiator, data.channel, whole.len())?;
                bytes.extend_from_slice(&whole);
                out.push(bytes.into());
                Ok(())
            }
            Domain::ConnectInitial
            | Domain::Setup
            | Domain::AttachConfirm(_)
            | Domain::Request(_)
            | Domain::Disconnect
            | Domain::TransportDisconnect => Err(RdpError::Unexpected("PDU")),
        }
    }

    fn owes(&self) -> bool {
        self.0.owes(Direction::Down)
    }

    fn speak(&mut self, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        self.0.speak(Direction::Down, out)
    }
}
