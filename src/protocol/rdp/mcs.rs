//! MCS (T.125 section 7; 2.2.1.3 to 2.2.1.9): the kind of a PDU, and the channel of data.
//!
//! Every TPKT PDU after the negotiation is `03 00 LL LL`, X.224 data `02 f0 80` (class 0, end of
//! TSDU), and a domain PDU of MCS. Its first byte is BER's tag for the two Connect PDUs; for all
//! others it is six bits of PER's choice and two option bits.

use super::RdpError;
use super::reader::Reader;

/// Length of the TPKT and X.224 headers.
pub(super) const HEADER: usize = 7;
/// Longest user data that a PER length (aligned) can express without fragments.
pub(super) const MAX_USER_DATA: usize = 0x3fff;
/// Domain PDU choices (T.125 section 7).
const SEND_DATA_REQUEST: u8 = 25;
const SEND_DATA_INDICATION: u8 = 26;
/// High priority, begin and end of the segmentation: RDP never segments here.
const UNSEGMENTED: u8 = 0x30;

/// Kind of a TPKT PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum McsPdu {
    ConnectInitial,
    ConnectResponse,
    /// Requests and confirmations of users and channels without data: erect domain, attach user,
    /// channel join.
    Setup,
    /// Attach User Confirm, with the client's initiator if it succeeded.
    AttachUserConfirm(Option<u16>),
    SendDataRequest(SendData),
    SendDataIndication(SendData),
    /// Disconnect Provider Ultimatum.
    Disconnect,
    /// X.224 Disconnect Request (section 13.5), which some servers send instead.
    TransportDisconnect,
}

/// Position of the user data in a Send Data PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SendData {
    /// User id of the sender, as it is on the wire.
    pub(super) initiator: u16,
    pub(super) channel: u16,
    /// Offset of the user data from the PDU's start. It extends to the PDU's end.
    pub(super) offset: usize,
    /// In bytes.
    pub(super) length: usize,
}

/// Parses the header of a TPKT PDU of `total` bytes, of which `seen` is available: all, or enough
/// for every header.
///
/// # Errors
/// [`RdpError::Malformed`]; also when data is segmented, or its length is not that of the PDU,
/// since a less strict reader could find something else there.
pub(super) fn parse(header: &[u8], total: usize) -> Result<McsPdu, RdpError> {
    let mut reader = Reader::new(header, "MCS PDU");
    reader.take(4)?;
    let [indicator, code] = reader.array()?;
    if code & 0xf0 == 0x80 && indicator >= 6 {
        return Ok(McsPdu::TransportDisconnect);
    }
    if indicator != 2 || code != 0xf0 || reader.u8()? != 0x80 {
        return Err(RdpError::Malformed("X.224 header"));
    }
    let first = reader.u8()?;
    match (first, first >> 2) {
        (0x7f, _) => match reader.u8()? {
            0x65 => Ok(McsPdu::ConnectInitial),
            0x66 => Ok(McsPdu::ConnectResponse),
            _ => Err(reader.malformed()),
        },
        // Erect domain, attach user, channel join and its confirmation.
        (_, 1 | 10 | 14 | 15) => Ok(McsPdu::Setup),
        (_, 11) => {
            let result = reader.u8()?;
            Ok(McsPdu::AttachUserConfirm(if first & 2 != 0 && result == 0 {
                Some(reader.u16_be()?)
            } else {
                None
            }))
        }
        (_, 8) => Ok(McsPdu::Disconnect),
        (_, SEND_DATA_REQUEST) => {
            send_data(reader, header.len(), total).map(McsPdu::SendDataRequest)
        }
        (_, SEND_DATA_INDICATION) => {
            send_data(reader, header.len(), total).map(McsPdu::SendDataIndication)
        }
        (_, _) => Err(reader.malformed()),
    }
}

fn send_data(mut reader: Reader<'_>, header: usize, total: usize) -> Result<SendData, RdpError> {
    let (initiator, channel) = (reader.u16_be()?, reader.u16_be()?);
    let flags = reader.u8()?;
    let length = reader.per_length()?;
    let offset = header - reader.rest().len();
    if flags & UNSEGMENTED != UNSEGMENTED || offset + length != total {
        return Err(reader.malformed());
    }
    Ok(SendData { initiator, channel, offset, length })
}

/// Appends the header of a Send Data PDU with `length` bytes of user data, at most
/// [`MAX_USER_DATA`].
pub(super) fn write_send_data(
    out: &mut Vec<u8>,
    up: bool,
    initiator: u16,
    channel: u16,
    length: usize,
) -> Result<(), RdpError> {
    let too_long = RdpError::TooLong { what: "PDU", length, limit: MAX_USER_DATA };
    if length > MAX_USER_DATA {
        return Err(too_long);
    }
    let user_data = u16::try_from(length).map_err(|_| too_long)?;
    let total = user_data + 15;
    out.extend_from_slice(&[3, 0]);
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(&[
        2,
        0xf0,
        0x80,
        if up { SEND_DATA_REQUEST } else { SEND_DATA_INDICATION } << 2,
    ]);
    out.extend_from_slice(&initiator.to_be_bytes());
    out.extend_from_slice(&channel.to_be_bytes());
    out.push(0x40 | UNSEGMENTED);
    out.extend_from_slice(&(0x8000 | user_data).to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinguished() {
        let kind = |text: &str| {
            let bytes = hex::decode(text).unwrap();
            parse(&bytes, bytes.len())
        };
        assert_eq!(kind("0300000c02f0800401000100"), Ok(McsPdu::Setup));
        assert_eq!(kind("0300000802f08028"), Ok(McsPdu::Setup));
        assert_eq!(kind("0300000b02f0802e000007"), Ok(McsPdu::AttachUserConfirm(Some(7))));
        assert_eq!(kind("0300000b02f0802e010007"), Ok(McsPdu::AttachUserConfirm(None)));
        assert_eq!(kind("0300000c02f08038000703f0"), Ok(McsPdu::Setup));
        assert_eq!(kind("0300000902f0802180"), Ok(McsPdu::Disconnect));
        assert_eq!(kind("0300000b06800000000000"), Ok(McsPdu::TransportDisconnect));
        let data = SendData { initiator: 7, channel: 0x3ef, offset: 15, length: 12 };
        assert_eq!(
            kind("0300001b02f08064000703ef70800c040000000300000050000200"),
            Ok(McsPdu::SendDataRequest(data))
        );
    }

    #[test]
    fn ambiguous_pdus_are_refused() {
        for text in [
            "0300001b02f08064000703ef70800b040000000300000050000200", // One byte behind the user data.
            "0300001b02f08064000703ef70800d040000000300000050000200", // User data beyond the PDU.
            "0300001b02f08064000703ef60800c040000000300000050000200", // Not the last segment.
            "0300001b02f08064000703ef70c00c040000000300000050000200", // A fragment.
            "0300001b02f00064000703ef70800c040000000300000050000200", // Not the end of the TSDU.
            "0300001b02f0806c000703ef70800c040000000300000050000200", // Uniform send data.
        ] {
            let bytes = hex::decode(text).unwrap();
            assert!(matches!(parse(&bytes, bytes.len()), Err(RdpError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn written_headers_can_be_parsed() {
        let mut out = Vec::new();
        write_send_data(&mut out, true, 7, 0x3ef, 500).unwrap();
        let offset = out.len();
        out.resize(offset + 500, 0);
        assert_eq!(
            parse(&out, out.len()),
            Ok(McsPdu::SendDataRequest(SendData {
                initiator: 7,
                channel: 0x3ef,
                offset,
                length: 500
            }))
        );
        assert!(write_send_data(&mut out, true, 7, 0x3ef, MAX_USER_DATA + 1).is_err());
    }
}
