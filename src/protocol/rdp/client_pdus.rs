//! Decisions on each PDU of the client.

use super::channels::Role;
use super::connection::{ConnectionState, Phase, check_fast_path};
use super::direction_filter::{PduDecision, PduPolicy};
use super::frame::{Frame, Kind};
use super::mcs::{self, McsPdu};
use super::refusal::RefusalKind;
use super::share::{self, ClientPduClass};
use super::{Direction, RdpError, gcc, info};
use bytes::Bytes;

pub(super) struct ClientPolicy<'a>(pub(super) &'a mut ConnectionState);

impl PduPolicy for ClientPolicy<'_> {
    fn decide(&mut self, header: &[u8], frame: Frame) -> Result<PduDecision, RdpError> {
        let connection = &mut *self.0;
        if frame.kind == Kind::FastPath {
            if !connection.is_active() {
                return Err(RdpError::Unexpected("input"));
            }
            check_fast_path(header)?;
            let view_only = connection.policy.read_only;
            return Ok(if view_only {
                connection.refuse(RefusalKind::Input, Direction::Up, frame.length)
            } else {
                PduDecision::Pass
            });
        }
        match (connection.phase, mcs::parse(header, frame.length)?) {
            (_, McsPdu::Disconnect) => Ok(PduDecision::Pass),
            (Phase::Start, McsPdu::ConnectInitial) => Ok(PduDecision::Buffer),
            // Some clients send Attach User without waiting for the server's response.
            (Phase::Connecting | Phase::Joining | Phase::Active { .. }, McsPdu::Setup) => {
                Ok(PduDecision::Pass)
            }
            (Phase::Joining, McsPdu::SendDataRequest(data))
                if data.channel == connection.channels.io =>
            {
                Ok(PduDecision::Buffer)
            }
            (Phase::Active { .. }, McsPdu::SendDataRequest(data)) => {
                match connection.channels.role(data.channel) {
                    Role::Io if connection.policy.read_only => Ok(PduDecision::Buffer),
                    role @ (Role::Io
                    | Role::Message
                    | Role::Virtual(_)
                    | Role::Forbidden(_)
                    | Role::Unknown) => connection.decide_data(header, data, role, Direction::Up),
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
        let connection = &mut *self.0;
        match (mcs::parse(&pdu, pdu.len())?, connection.phase) {
            (McsPdu::ConnectInitial, Phase::Start) => {
                let mut edited = Vec::from(pdu);
                connection.channels =
                    gcc::edit_initial(&mut edited, connection.edits.core, connection.policy)?;
                connection.phase = Phase::Connecting;
                out.push(edited.into());
                Ok(())
            }
            (McsPdu::SendDataRequest(data), Phase::Joining) => {
                if !info::is_info(pdu.get(data.offset..).unwrap_or_default())? {
                    return Err(RdpError::Unexpected("data before Client Info"));
                }
                let credential = connection.edits.credential.take();
                // Compressed channel data could not be inspected.
                let rewritten =
                    info::rewrite(&pdu, data, credential.as_ref(), connection.policy.is_open())?;
                connection.phase = Phase::Active { licensing: true };
                // The owner wipes the bytes when they are dropped.
                out.push(Bytes::from_owner(rewritten));
                Ok(())
            }
            (McsPdu::SendDataRequest(data), Phase::Active { licensing }) => {
                if let Role::Virtual(purpose) = connection.channels.role(data.channel) {
                    return connection.reassemble(pdu, data, purpose, Direction::Up, out);
                }
                match share::classify_client_pdus(
                    pdu.get(data.offset..).unwrap_or_default(),
                    licensing,
                ) {
                    ClientPduClass::ViewOnly => out.push(pdu),
                    ClientPduClass::ConfirmActive => {
                        connection.phase = Phase::Active { licensing: false };
                        out.push(pdu);
                    }
                    ClientPduClass::Input => {
                        connection.refusals.count(RefusalKind::Input, Direction::Up, data.length)
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
