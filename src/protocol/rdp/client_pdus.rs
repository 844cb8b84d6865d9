//! What becomes of each PDU the client sends.

use super::channels::Role;
use super::connection::{ConnectionState, Phase, check_fast_path};
use super::direction_filter::{PduDecision, PduPolicy};
use super::frame::{Frame, Kind};
use super::mcs::{self, McsPdu};
use super::refusal::RefusalKind;
use super::share::{self, ClientPduClass};
use super::{Direction, RdpError, gcc, info};
use bytes::Bytes;

/// What the client sends.
pub(super) struct ClientPolicy<'a>(pub(super) &'a mut ConnectionState);

impl PduPolicy for ClientPolicy<'_> {
    fn decide(&mut self, seen: &[u8], frame: Frame) -> Result<PduDecision, RdpError> {
        let rules = &mut *self.0;
        if frame.kind == Kind::FastPath {
            if !rules.is_active() {
                return Err(RdpError::Unexpected("input"));
            }
            check_fast_path(seen)?;
            let looks = rules.policy.read_only;
            return Ok(if looks {
                rules.refuse(RefusalKind::Input, Direction::Up, frame.length)
            } else {
                PduDecision::Pass
            });
        }
        match (rules.phase, mcs::parse(seen, frame.length)?) {
            (_, McsPdu::Disconnect) => Ok(PduDecision::Pass),
            (Phase::Start, McsPdu::ConnectInitial) => Ok(PduDecision::Buffer),
            // Some clients ask for their user without waiting for the server's response.
            (Phase::Connecting | Phase::Joining | Phase::Active { .. }, McsPdu::Setup) => {
                Ok(PduDecision::Pass)
            }
            (Phase::Joining, McsPdu::SendDataRequest(data))
                if data.channel == rules.channels.io =>
            {
                Ok(PduDecision::Buffer)
            }
            (Phase::Active { .. }, McsPdu::SendDataRequest(data)) => {
                match rules.channels.role(data.channel) {
                    Role::Io if rules.policy.read_only => Ok(PduDecision::Buffer),
                    role @ (Role::Io
                    | Role::Message
                    | Role::Virtual(_)
                    | Role::Forbidden(_)
                    | Role::Unknown) => rules.decide_data(seen, data, role, Direction::Up),
                }
            }
            (_, McsPdu::ConnectInitial) => Err(RdpError::Unexpected("MCS Connect-Initial")),
            (_, McsPdu::Setup) => Err(RdpError::Unexpected("MCS request")),
            (_, McsPdu::SendDataRequest(_)) => Err(RdpError::Unexpected("data before Client Info")),
            (
                _,
                McsPdu::ConnectResponse
                | McsPdu::AttachUserConfirm(_)
                | McsPdu::SendDataIndication(_)
                | McsPdu::TransportDisconnect,
            ) => Err(RdpError::Unexpected("server's PDU")),
        }
    }

    fn handle_buffered(&mut self, pdu: Bytes, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        let rules = &mut *self.0;
        match (mcs::parse(&pdu, pdu.len())?, rules.phase) {
            (McsPdu::ConnectInitial, Phase::Start) => {
                let mut edited = Vec::from(pdu);
                rules.channels = gcc::edit_initial(&mut edited, rules.edits.core, rules.policy)?;
                rules.phase = Phase::Connecting;
                out.push(edited.into());
                Ok(())
            }
            (McsPdu::SendDataRequest(data), Phase::Joining) => {
                if !info::is_info(pdu.get(data.offset..).unwrap_or_default())? {
                    return Err(RdpError::Unexpected("data before Client Info"));
                }
                let credential = rules.edits.credential.take();
                // Compressed, a channel's data could not be read.
                let ours = info::rewrite(&pdu, data, credential.as_ref(), rules.policy.is_open())?;
                rules.phase = Phase::Active { licensing: true };
                // The owner wipes the bytes once they have been sent.
                out.push(Bytes::from_owner(ours));
                Ok(())
            }
            (McsPdu::SendDataRequest(data), Phase::Active { licensing }) => {
                if let Role::Virtual(purpose) = rules.channels.role(data.channel) {
                    return rules.reassemble(pdu, data, purpose, Direction::Up, out);
                }
                match share::classify_client_pdus(
                    pdu.get(data.offset..).unwrap_or_default(),
                    licensing,
                ) {
                    ClientPduClass::ViewOnly => out.push(pdu),
                    ClientPduClass::ConfirmActive => {
                        rules.phase = Phase::Active { licensing: false };
                        out.push(pdu);
                    }
                    ClientPduClass::Input => {
                        rules.refusals.count(RefusalKind::Input, Direction::Up, data.length)
                    }
                }
                Ok(())
            }
            (_, _) => Err(RdpError::Unexpected("PDU")),
        }
    }

    fn has_pending(&self) -> bool {
        self.0.has_pending(Direction::Up)
    }

    fn flush_pending(&mut self, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        self.0.flush_pending(Direction::Up, out)
    }
}
