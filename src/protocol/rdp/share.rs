//! Share control on the I/O channel (2.2.8.1.1.1): what a view-only client may send, invalid
//! desktop sizes, redirections, and the server's announced reason for the end.
//!
//! One MCS PDU may hold several share control PDUs, each with its length.

use super::RdpError;
use super::error_info::ErrorInfo;
use super::reader::{Reader, u16_at, u32_at};

/// Largest desktop width and height of RDP (2.2.1.3.2), in pixels.
pub const MAX_DESKTOP: u32 = 8192;
/// Most monitors (2.2.1.3.6).
const MAX_MONITORS: u32 = 16;
/// Length of the share control header, and with the share data header.
const CONTROL: usize = 6;
const DATA: usize = 18;

/// Share control types (2.2.8.1.1.1.1): the lowest four bits. Above them is a version, which
/// servers ignore.
mod kind {
    pub(super) const DEMAND_ACTIVE: u16 = 1;
    pub(super) const CONFIRM_ACTIVE: u16 = 3;
    pub(super) const DEACTIVATE_ALL: u16 = 6;
    pub(super) const DATA: u16 = 7;
    pub(super) const REDIRECTION: u16 = 10;
}
/// The only version, in the bits above the type.
const VERSION: u16 = 0x10;
const MONITOR_LAYOUT: u8 = 0x37;
/// Set Error Info (2.2.5.1).
const ERROR_INFO: u8 = 0x2f;
/// `PACKET_COMPRESSED` (2.2.8.1.1.1.2).
const COMPRESSED: u8 = 0x20;
/// Font Map (2.2.1.22): the last PDU of the connection's setup.
const FONT_MAP: u8 = 0x28;
/// PDU types that a view-only client may send (2.2.8.1.1.1.2): synchronize, control, font list,
/// refresh rect, suppress output, shutdown request, the cached bitmaps' list and errors, frame
/// acknowledge.
const VIEW_ONLY_TYPES: &[u8] =
    &[0x1f, 0x14, 0x27, 0x21, 0x23, 0x24, 0x2b, 0x2c, 0x2e, 0x30, 0x31, 0x38];

/// Whether a PDU must be inspected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Inspect {
    /// It may hold what is checked.
    Required,
    Skip,
}

/// Whether a server's PDU of `total` bytes of user data may hold a desktop size, a redirection or
/// an error info, by its first bytes.
///
/// The Font Map is inspected, too, although it holds none of these: an inspected PDU is forwarded
/// as a piece of its own. The browser's client discards what it reads together with that PDU;
/// servers announce their dynamic channels there (xrdp does so at once), and without these the
/// desktop could not be resized.
pub(super) fn inspect(header: &[u8], total: usize) -> Inspect {
    let (length, kind) =
        (u16_at(header, 0).map_or(0, usize::from), u16_at(header, 2).unwrap_or_default());
    if is_truncated_deactivate(header, total) {
        return Inspect::Required;
    }
    // Licensing PDUs have another header (2.2.1.12), without a version.
    if kind & 0xf0 != VERSION {
        return Inspect::Skip;
    }
    match kind & 0x0f {
        kind::DEMAND_ACTIVE | kind::REDIRECTION => Inspect::Required,
        kind::DATA if matches!(header.get(14), Some(&(MONITOR_LAYOUT | FONT_MAP | ERROR_INFO))) => {
            Inspect::Required
        }
        _ if length < total => Inspect::Required,
        _ => Inspect::Skip,
    }
}

/// Whether it is a Deactivate All PDU (2.2.3.1) that consists of its header only. xrdp and old
/// Windows versions send it so.
fn is_truncated_deactivate(user_data: &[u8], total: usize) -> bool {
    total == CONTROL
        && u16_at(user_data, 0) == Some(CONTROL as u16)
        && u16_at(user_data, 2).is_some_and(|kind| kind & 0x0f == kind::DEACTIVATE_ALL)
}

/// The complete Deactivate All PDU in place of a truncated one, which the browser's client treats
/// as an error; `None` for any other PDU.
pub(super) fn complete_deactivate(user_data: &[u8]) -> Option<[u8; 13]> {
    let source = user_data
        .get(4..CONTROL)
        .filter(|_| is_truncated_deactivate(user_data, user_data.len()))?;
    let mut completed = [0; 13];
    // Length, type and version, source; clients ignore the share id (0); a source descriptor of one
    // byte, zero.
    for (at, byte) in [
        (0, 13),
        (2, (VERSION | kind::DEACTIVATE_ALL) as u8),
        (4, source[0]),
        (5, source[1]),
        (10, 1),
    ] {
        completed[at] = byte;
    }
    Some(completed)
}

/// The next PDU: its type and all of it.
fn next_pdu<'a>(reader: &mut Reader<'a>) -> Result<(u16, &'a [u8]), RdpError> {
    let length = u16_at(reader.rest(), 0).ok_or(reader.malformed())?;
    let pdu = reader.take(usize::from(length))?;
    let kind = u16_at(pdu, 2).filter(|_| pdu.len() >= CONTROL).ok_or(reader.malformed())?;
    Ok((kind, pdu))
}

/// Checks a server's PDUs: the sizes in them, and that none redirects. Returns the last error info
/// in them, if any.
///
/// # Errors
/// [`RdpError::Redirected`], [`RdpError::DesktopSize`], [`RdpError::MonitorLayout`],
/// [`RdpError::Malformed`].
pub(super) fn check(user_data: &[u8]) -> Result<Option<Option<ErrorInfo>>, RdpError> {
    let mut error_info = None;
    let mut reader = Reader::new(user_data, "share control PDU");
    while !reader.rest().is_empty() {
        let (kind, pdu) = next_pdu(&mut reader)?;
        match kind & 0x0f {
            // It names another server, and may hold a password for it (2.2.13.1).
            kind::REDIRECTION => return Err(RdpError::Redirected),
            kind::DEMAND_ACTIVE => demand_active(pdu)?,
            kind::DATA if pdu.get(14) == Some(&MONITOR_LAYOUT) => monitors(pdu)?,
            // A compressed one cannot be read; servers have no reason to compress it.
            kind::DATA
                if pdu.get(14) == Some(&ERROR_INFO)
                    && pdu.get(15).is_some_and(|flags| flags & COMPRESSED == 0) =>
            {
                error_info = u32_at(pdu, DATA).map(ErrorInfo::from_code).or(error_info);
            }
            _ => {}
        }
    }
    Ok(error_info)
}

/// Reads the bitmap capability set (2.2.1.13.1, 2.2.7.1.2).
fn demand_active(pdu: &[u8]) -> Result<(), RdpError> {
    let mut reader = Reader::new(pdu, "Demand Active PDU");
    reader.take(CONTROL + 4)?;
    let source = usize::from(reader.u16()?);
    reader.take(2 + source)?;
    let count = reader.u16()?;
    reader.take(2)?;
    for _ in 0..count {
        let (set, length) = (reader.u16()?, usize::from(reader.u16()?));
        let body = reader.take(length.checked_sub(4).ok_or(reader.malformed())?)?;
        if set == 2 {
            let field = |at| u16_at(body, at).map(u32::from).ok_or(reader.malformed());
            let (width, height) = (field(8)?, field(10)?);
            check_size(width, height)?;
        }
    }
    Ok(())
}

fn check_size(width: u32, height: u32) -> Result<(), RdpError> {
    let fits = |n| (1..=MAX_DESKTOP).contains(&n);
    if fits(width) && fits(height) { Ok(()) } else { Err(RdpError::DesktopSize { width, height }) }
}

/// Reads the monitor layout PDU (2.2.12.1): inclusive rectangles on one desktop.
fn monitors(pdu: &[u8]) -> Result<(), RdpError> {
    let mut reader = Reader::new(pdu, "monitor layout PDU");
    reader.take(DATA)?;
    let count = reader.u32()?;
    if count > MAX_MONITORS {
        return Err(RdpError::MonitorLayout);
    }
    for _ in 0..count {
        let mut edge = || Ok::<_, RdpError>(i64::from(reader.u32()?.cast_signed()));
        let (left, top, right, bottom) = (edge()?, edge()?, edge()?, edge()?);
        let fits = |from: i64, to: i64| {
            from.abs() <= 32768 && (0..i64::from(MAX_DESKTOP)).contains(&(to - from))
        };
        if !fits(left, right) || !fits(top, bottom) {
            return Err(RdpError::MonitorLayout);
        }
        reader.u32()?;
    }
    Ok(())
}

/// Classification of a view-only client's PDUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ClientPduClass {
    ViewOnly,
    /// The same, and the client confirms that it is active: licensing is over from here on.
    ConfirmActive,
    /// Input, or an unknown PDU.
    Input,
}

/// Classifies a client's PDUs on the I/O channel; `licensing` while they may be licensing PDUs
/// (2.2.1.12), before the client is active.
pub(super) fn classify_client_pdus(user_data: &[u8], licensing: bool) -> ClientPduClass {
    // `SEC_LICENSE_PKT`. Input could look like this, but no server accepts input before the client
    // is active.
    let confirms_active = |kind: u16| kind & 0x0f == kind::CONFIRM_ACTIVE;
    if licensing
        && u16_at(user_data, 0).is_some_and(|flags| flags & 0x80 != 0)
        && !u16_at(user_data, 2).is_none_or(confirms_active)
    {
        return ClientPduClass::ViewOnly;
    }
    let mut reader = Reader::new(user_data, "share control PDU");
    let mut class = ClientPduClass::ViewOnly;
    while !reader.rest().is_empty() {
        let Ok((kind, pdu)) = next_pdu(&mut reader) else { return ClientPduClass::Input };
        match kind & 0x0f {
            kind::CONFIRM_ACTIVE => class = ClientPduClass::ConfirmActive,
            // The type, and no compression, which could hide anything.
            kind::DATA
                if pdu.get(14).is_some_and(|t| VIEW_ONLY_TYPES.contains(t))
                    && pdu.get(15) == Some(&0) => {}
            _ => return ClientPduClass::Input,
        }
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(width: u16, height: u16) -> Vec<u8> {
        let mut pdu = vec![
            0, 0, 0x11, 0, 0xea, 3, 1, 0, 1, 0, 4, 0, 0, 0, b'R', b'D', b'P', 0, 1, 0, 0, 0, 2, 0,
            0x1c, 0,
        ];
        pdu.extend([32u16, 1, 1, 1, width, height].iter().flat_map(|n| n.to_le_bytes()));
        pdu.resize(pdu.len() + 12, 0);
        pdu[0] = u8::try_from(pdu.len()).unwrap();
        pdu
    }

    fn data(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut pdu = vec![0; DATA];
        pdu[0] = u8::try_from(DATA + body.len()).unwrap();
        (pdu[2], pdu[14]) = (0x17, kind);
        pdu.extend(body);
        pdu
    }

    fn layout(edges: &[[i32; 4]]) -> Vec<u8> {
        let mut body = u32::try_from(edges.len()).unwrap().to_le_bytes().to_vec();
        body.extend(edges.iter().flat_map(|e| [&e[..], &[1]].concat()).flat_map(i32::to_le_bytes));
        data(MONITOR_LAYOUT, &body)
    }

    #[test]
    fn invalid_desktop_sizes_are_refused() {
        for (width, height) in [(1, 1), (1024, 768), (8192, 8192)] {
            assert_eq!(check(&demand(width, height)), Ok(None));
        }
        for (width, height) in [(60_000, 60_000), (8193, 1), (1, 8193), (0, 768)] {
            let error = RdpError::DesktopSize { width: width.into(), height: height.into() };
            assert_eq!(check(&demand(width, height)), Err(error), "first");
            assert_eq!(
                check(&[data(0x1f, b""), demand(width, height)].concat()),
                Err(error),
                "behind another"
            );
        }
        let hidden = [data(0x1f, b""), demand(1, 1)].concat();
        assert_eq!(inspect(&hidden, hidden.len()), Inspect::Required);
        assert_eq!(inspect(&demand(1, 1), 48), Inspect::Required);
        assert_eq!(inspect(&data(0x02, b""), DATA), Inspect::Skip);
        assert_eq!(inspect(&data(FONT_MAP, b""), DATA), Inspect::Required, "it goes on by itself");
        for n in 1..48 {
            assert!(check(&demand(1024, 768)[..n]).is_err());
        }
    }

    #[test]
    fn a_truncated_deactivate_is_completed() {
        let short = [6, 0, 6, 0, 0xee, 3];
        assert_eq!(inspect(&short, 6), Inspect::Required);
        assert_eq!(
            complete_deactivate(&short),
            Some([13, 0, 0x16, 0, 0xee, 3, 0, 0, 0, 0, 1, 0, 0])
        );
        assert_eq!(complete_deactivate(&complete_deactivate(&short).unwrap()), None);
        assert_eq!(complete_deactivate(&demand(1, 1)), None);
        assert_eq!(check(&complete_deactivate(&short).unwrap()), Ok(None));
    }

    #[test]
    fn redirections_are_refused() {
        let redirection = [8, 0, 0x1a, 0, 1, 0, 0, 0];
        assert_eq!(inspect(&redirection, 8), Inspect::Required);
        assert_eq!(check(&redirection), Err(RdpError::Redirected));
    }

    #[test]
    fn the_last_error_info_is_returned() {
        let error_info_pdu = |code: u32| data(ERROR_INFO, &code.to_le_bytes());
        assert_eq!(inspect(&error_info_pdu(5), 22), Inspect::Required);
        assert_eq!(check(&error_info_pdu(5)), Ok(Some(Some(ErrorInfo::TakenOver))));
        assert_eq!(check(&error_info_pdu(0)), Ok(Some(None)), "nothing is wrong");
        assert_eq!(
            check(&[error_info_pdu(5), error_info_pdu(0), data(0x1f, b"")].concat()),
            Ok(Some(None)),
            "the last word counts"
        );
        let mut compressed = error_info_pdu(5);
        compressed[15] = COMPRESSED;
        assert_eq!(check(&compressed), Ok(None));
        assert_eq!(check(&data(ERROR_INFO, &[5, 0])), Ok(None), "cut short");
    }

    #[test]
    fn invalid_monitor_layouts_are_refused() {
        assert_eq!(check(&layout(&[[0, 0, 1919, 1079], [-1920, 0, -1, 1079]])), Ok(None));
        for bad in
            [[0, 0, -1, 10], [0, 0, 8192, 10], [i32::MIN, 0, i32::MAX, 10], [40_000, 0, 40_010, 10]]
        {
            assert_eq!(check(&layout(&[bad])), Err(RdpError::MonitorLayout), "{bad:?}");
        }
        let mut many = layout(&[]);
        many[DATA] = 17;
        assert_eq!(check(&many), Err(RdpError::MonitorLayout));
    }

    #[test]
    fn view_only_pdus_are_distinguished_from_input() {
        let confirm = [8, 0, 0x13, 0, 1, 0, 0, 0];
        assert_eq!(classify_client_pdus(&confirm, true), ClientPduClass::ConfirmActive);
        for kind in VIEW_ONLY_TYPES {
            assert_eq!(classify_client_pdus(&data(*kind, b"x"), false), ClientPduClass::ViewOnly);
        }
        let input = data(0x1c, b"key");
        assert_eq!(classify_client_pdus(&input, true), ClientPduClass::Input);
        assert_eq!(
            classify_client_pdus(&[data(0x1f, b""), input.clone()].concat(), false),
            ClientPduClass::Input,
            "behind another"
        );
        let mut compressed = data(0x1f, b"");
        compressed[15] = 0x21;
        assert_eq!(classify_client_pdus(&compressed, false), ClientPduClass::Input);
        let licence = [0x80, 0, 0, 0, 0x13, 0x83];
        assert_eq!(classify_client_pdus(&licence, true), ClientPduClass::ViewOnly);
        assert_eq!(classify_client_pdus(&licence, false), ClientPduClass::Input);
        assert_eq!(classify_client_pdus(&input[..10], false), ClientPduClass::Input);
    }
}
