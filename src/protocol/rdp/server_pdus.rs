//! Decisions on each PDU of the server.

use super::channels::Role;
use super::connection::{ConnectionState, Phase, check_fast_path};
use super::direction_filter::{PduDecision, PduPolicy};
use super::frame::{Frame, Kind};
use super::mcs::{self, McsPdu};
use super::share::{self, Inspect};
use super::{Direction, RdpError, gcc};
use bytes::Bytes;

pub(super) struct ServerPolicy<'a>(pub(super) &'a mut ConnectionState);

impl PduPolicy for ServerPolicy<'_> {
    fn decide(&mut self, header: &[u8], frame: Frame) -> Result<PduDecision, RdpError> {
        let connection = &mut *self.0;
        if frame.kind == Kind::FastPath {
            if !connection.is_active() {
                return Err(RdpError::Unexpected("picture"));
            }
            check_fast_path(header)?;
            return Ok(PduDecision::Pass);
        }
        match (connection.phase, mcs::parse(header, frame.length)?) {
            (_, McsPdu::Disconnect | McsPdu::TransportDisconnect) => Ok(PduDecision::Pass),
            (Phase::Connecting, McsPdu::ConnectResponse) => Ok(PduDecision::Buffer),
            (Phase::Joining | Phase::Active { .. }, McsPdu::Setup) => Ok(PduDecision::Pass),
            (Phase::Joining, McsPdu::AttachUserConfirm(initiator)) => {
                connection.initiator = initiator.unwrap_or(connection.initiator);
                Ok(PduDecision::Pass)
            }
            (Phase::Active { .. }, McsPdu::SendDataIndication(data)) => {
                match connection.channels.role(data.channel) {
                    Role::Io
                        if share::inspect(
                            header.get(data.offset..).unwrap_or_default(),
                            data.length,
                        ) == Inspect::Required =>
                    {
                        Ok(PduDecision::Buffer)
                    }
                    role @ (Role::Io
                    | Role::Message
                    | Role::Virtual(_)
                    | Role::Forbidden(_)
                    | Role::Unknown) => connection.decide_data(header, data, role, Direction::Down),
                }
            }
            (_, McsPdu::ConnectResponse) => Err(RdpError::Unexpected("MCS Connect-Response")),
            (_, McsPdu::Setup | McsPdu::AttachUserConfirm(_)) => {
                Err(RdpError::Unexpected("MCS confirmation"))
            }
            (_, McsPdu::SendDataIndication(_)) => {
                Err(RdpError::Unexpected("data before Client Info"))
            }
            (_, McsPdu::ConnectInitial | McsPdu::SendDataRequest(_)) => {
                Err(RdpError::Unexpected("client's PDU"))
            }
        }
    }

    fn handle_buffered(&mut self, pdu: Bytes, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        let connection = &mut *self.0;
        match mcs::parse(&pdu, pdu.len())? {
            McsPdu::ConnectResponse => {
                gcc::read_response(&pdu, &mut connection.channels)?;
                connection.phase = Phase::Joining;
                out.push(pdu);
                Ok(())
            }
            McsPdu::SendDataIndication(data) => {
                if let Role::Virtual(purpose) = connection.channels.role(data.channel) {
                    return connection.reassemble(pdu, data, purpose, Direction::Down, out);
                }
                let user_data = pdu.get(data.offset..).unwrap_or_default();
                if let Some(error_info) = share::check(user_data)? {
                    connection.error_info = error_info;
                }
                let Some(completed) = share::complete_deactivate(user_data) else {
                    out.push(pdu);
                    return Ok(());
                };
                let mut bytes = Vec::new();
                mcs::write_send_data(
                    &mut bytes,
                    false,
                    data.initiator,
                    data.channel,
                    completed.len(),
                )?;
                bytes.extend_from_slice(&completed);
                out.push(bytes.into());
                Ok(())
            }
            McsPdu::ConnectInitial
            | McsPdu::Setup
            | McsPdu::AttachUserConfirm(_)
            | McsPdu::SendDataRequest(_)
            | McsPdu::Disconnect
            | McsPdu::TransportDisconnect => Err(RdpError::Unexpected("PDU")),
        }
    }

    fn has_pending(&self) -> bool {
        self.0.has_pending(Direction::Down)
    }

    fn flush_pending(&mut self, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        self.0.flush_pending(Direction::Down, out)
    }
}
