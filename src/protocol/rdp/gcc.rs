//! GCC settings of both sides (2.2.1.3, 2.2.1.4): MCS Connect-Initial and Connect-Response in BER,
//! T.124 in PER inside, and a sequence of blocks in that.
//!
//! The client's blocks are edited in place, so that no length changes:
//!
//! | block | edit | reason |
//! | --- | --- | --- |
//! | `CS_CORE` | 32 bits a pixel over a LAN | the browser's component requests 16, which xrdp answers with padded bitmaps it cannot draw |
//! | `CS_CORE` | the protocol the server selected | it differs from what the client was told when the gateway performed NLA |
//! | `CS_CORE` | the client's build, at least Windows XP's | xrdp never announces a new desktop size to an older one |
//! | `CS_CORE` | no graphics pipeline | the sizes in it could not be checked ([`super::dynamic`]) |
//! | `CS_CORE` | keyboard layout, and type where it needs one | the workspace's, or else the browser's: its component tells none |
//! | `CS_NET` | names of channels that are not allowed | see [`super::channels`] |
//! | `CS_MULTITRANSPORT` | no transports | the gateway carries TCP only |

use super::channels::{Channel, Channels, MAX_CHANNELS, NAME_LENGTH};
use super::reader::{Reader, u32_at, write_at};
use super::{Policy, RdpError, mcs};

const CS_CORE: u16 = 0xc001;
const CS_NET: u16 = 0xc003;
const CS_MULTITRANSPORT: u16 = 0xc00a;
const SC_SECURITY: u16 = 0x0c02;
const SC_NET: u16 = 0x0c03;
const SC_MESSAGE_CHANNEL: u16 = 0x0c04;

/// Offsets in `CS_CORE`, from the block's start (2.2.1.3.2).
mod core {
    pub(super) const KEYBOARD_LAYOUT: usize = 16;
    pub(super) const CLIENT_BUILD: usize = 20;
    pub(super) const KEYBOARD_TYPE: usize = 56;
    pub(super) const HIGH_COLOR_DEPTH: usize = 140;
    pub(super) const SUPPORTED_COLOR_DEPTHS: usize = 142;
    pub(super) const EARLY_CAPABILITY_FLAGS: usize = 144;
    pub(super) const CONNECTION_TYPE: usize = 210;
    pub(super) const SERVER_SELECTED_PROTOCOL: usize = 212;
    /// Length of the block up to the selected protocol.
    pub(super) const LENGTH: usize = 216;
}

/// The lowest client build that is announced: Windows XP's. IronRDP announces about 70; xrdp treats
/// a build up to 419 as a client whose desktop cannot be resized: it then paints in the new size
/// without announcing it.
const MIN_CLIENT_BUILD: u32 = 2600;
/// `RNS_UD_24BPP_SUPPORT` to `RNS_UD_32BPP_SUPPORT`, in one byte.
const ALL_DEPTHS: u8 = 0x0f;
/// `RNS_UD_CS_WANT_32BPP_SESSION` and `RNS_UD_CS_VALID_CONNECTION_TYPE`, in the flags' low byte.
const WANT_32BPP_AND_TYPE: u8 = 0x22;
/// `RNS_UD_CS_SUPPORT_DYNVC_GFX_PROTOCOL`, in the flags' high byte.
const GRAPHICS_PIPELINE: u8 = 0x01;
/// The language of the Japanese layouts, in their lower half.
const JAPANESE: u32 = 0x0411;
/// The Japanese keyboard of 106 keys: type 7, subtype 2, in little-endian order. With type 4 a
/// server takes it for an English one, whose keys have other characters.
const JAPANESE_KEYBOARD: [u8; 8] = [7, 0, 0, 0, 2, 0, 0, 0];
/// `CONNECTION_TYPE_LAN`: the server need not save bandwidth.
const LAN: u8 = 6;

/// The key of T.124 (an object identifier), and the head of its ConferenceCreateRequest as every
/// client writes it (2.2.1.3, 4.1.3).
const T124: &[u8] = &[0x00, 0x05, 0x00, 0x14, 0x7c, 0x00, 0x01];
const CREATE_REQUEST: &[u8] =
    &[0x00, 0x08, 0x00, 0x10, 0x00, 0x01, 0xc0, 0x00, b'D', b'u', b'c', b'a'];
/// The head of the response after the node's number and a tag: one set of user data with the
/// server's key.
const CREATE_RESPONSE: &[u8] = &[0x01, 0xc0, 0x00, b'M', b'c', b'D', b'n'];

const INITIAL: &str = "MCS Connect-Initial";
const RESPONSE: &str = "MCS Connect-Response";

/// What the gateway writes into the client's core settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreEdits {
    /// The security protocol the server selected ([`super::x224::ConnectionConfirm::selected`]).
    pub selected: u32,
    /// Keyboard layout (an input locale identifier, such as 0x407 for German), if known.
    pub keyboard_layout: Option<u32>,
}

/// Edits a client's Connect-Initial PDU in place, and returns the channels it requests.
///
/// # Errors
/// [`RdpError::Malformed`] when it violates MS-RDPBCGR, or has a block twice. The bytes may have
/// been changed then.
pub fn edit_initial(
    pdu: &mut [u8],
    edits: CoreEdits,
    policy: Policy,
) -> Result<Channels, RdpError> {
    let mut at = initial_blocks(pdu)?;
    let (mut has_core, mut channels) = (false, None);
    while at < pdu.len() {
        let (kind, length) = block_at(pdu, at, INITIAL)?;
        let block = pdu.get_mut(at..at + length).ok_or(RdpError::Malformed(INITIAL))?;
        match kind {
            CS_CORE if has_core => return Err(RdpError::Malformed("client's core settings")),
            CS_CORE => {
                edit_core(block, edits)?;
                has_core = true;
            }
            CS_NET if channels.is_some() => {
                return Err(RdpError::Malformed("client's channel list"));
            }
            CS_NET => channels = Some(edit_net(block, policy)?),
            CS_MULTITRANSPORT => write_at(block, 4, &[0; 4], INITIAL)?,
            _ => {}
        }
        at += length;
    }
    if !has_core {
        return Err(RdpError::Malformed("client's core settings"));
    }
    Ok(Channels { list: channels.unwrap_or_default(), ..Channels::default() })
}

/// Offset of the first settings block. Every length that servers use must agree with the PDU's, so
/// that the PDU can be read in one way only.
fn initial_blocks(pdu: &[u8]) -> Result<usize, RdpError> {
    let mut reader = Reader::new(pdu, INITIAL);
    reader.take(mcs::HEADER)?;
    reader.expect(&[0x7f, 0x65])?;
    expect_remaining(reader.ber_length()?, &reader)?;
    // Domain selectors, the upward flag, and three sets of domain parameters (T.125 section 7).
    for tag in [0x04, 0x04, 0x01, 0x30, 0x30, 0x30] {
        reader.ber_element(tag)?;
    }
    reader.expect(&[0x04])?;
    expect_remaining(reader.ber_length()?, &reader)?;
    reader.expect(T124)?;
    // IronRDP's length is two bytes too short here; servers ignore it. The content has a length of
    // its own.
    reader.per_length()?;
    reader.expect(CREATE_REQUEST)?;
    expect_remaining(reader.per_length()?, &reader)?;
    Ok(pdu.len() - reader.rest().len())
}

fn expect_remaining(length: usize, reader: &Reader<'_>) -> Result<(), RdpError> {
    if length == reader.rest().len() { Ok(()) } else { Err(reader.malformed()) }
}

/// A block's type and its length, its header of four bytes included.
fn block_at(bytes: &[u8], at: usize, what: &'static str) -> Result<(u16, usize), RdpError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut reader = Reader::new(rest, what);
    let (kind, length) = (reader.u16()?, usize::from(reader.u16()?));
    if length < 4 || length > rest.len() { Err(reader.malformed()) } else { Ok((kind, length)) }
}

fn edit_core(block: &mut [u8], edits: CoreEdits) -> Result<(), RdpError> {
    const WHAT: &str = "client's core settings";
    // Fields may be omitted from the end. A client from before TLS is not supported.
    if block.len() < core::LENGTH {
        return Err(RdpError::Malformed(WHAT));
    }
    if let Some(layout) = edits.keyboard_layout {
        write_at(block, core::KEYBOARD_LAYOUT, &layout.to_le_bytes(), WHAT)?;
        if layout & 0xffff == JAPANESE {
            write_at(block, core::KEYBOARD_TYPE, &JAPANESE_KEYBOARD, WHAT)?;
        }
    }
    if u32_at(block, core::CLIENT_BUILD).is_none_or(|build| build < MIN_CLIENT_BUILD) {
        write_at(block, core::CLIENT_BUILD, &MIN_CLIENT_BUILD.to_le_bytes(), WHAT)?;
    }
    write_at(block, core::HIGH_COLOR_DEPTH, &24u16.to_le_bytes(), WHAT)?;
    for (at, bits) in [
        (core::SUPPORTED_COLOR_DEPTHS, ALL_DEPTHS),
        (core::EARLY_CAPABILITY_FLAGS, WANT_32BPP_AND_TYPE),
    ] {
        if let Some(byte) = block.get_mut(at) {
            *byte |= bits;
        }
    }
    if let Some(byte) = block.get_mut(core::EARLY_CAPABILITY_FLAGS + 1) {
        *byte &= !GRAPHICS_PIPELINE;
    }
    write_at(block, core::CONNECTION_TYPE, &[LAN], WHAT)?;
    write_at(block, core::SERVER_SELECTED_PROTOCOL, &edits.selected.to_le_bytes(), WHAT)
}

fn edit_net(block: &mut [u8], policy: Policy) -> Result<Vec<Channel>, RdpError> {
    let malformed = RdpError::Malformed("client's channel list");
    let (head, entries) = block.split_first_chunk_mut::<8>().ok_or(malformed)?;
    let [_, _, _, _, count @ ..] = *head;
    let count = usize::try_from(u32::from_le_bytes(count)).map_err(|_| malformed)?;
    if count > MAX_CHANNELS || entries.len() != count * (NAME_LENGTH + 4) {
        return Err(malformed);
    }
    let mut list: Vec<Channel> = Vec::with_capacity(count);
    for entry in entries.chunks_exact_mut(NAME_LENGTH + 4) {
        let (name, options) = entry.split_first_chunk_mut::<NAME_LENGTH>().ok_or(malformed)?;
        let options = options.first_chunk().copied().map(u32::from_le_bytes).ok_or(malformed)?;
        list.push(Channel::filter_entry(name, options, &list, policy));
    }
    Ok(list)
}

/// Reads a server's Connect-Response PDU and assigns the channel ids.
///
/// # Errors
/// [`RdpError::Malformed`]; [`RdpError::Encrypted`] when the server enables RDP's own encryption,
/// which is not allowed inside TLS (5.4.1).
pub fn read_response(pdu: &[u8], channels: &mut Channels) -> Result<(), RdpError> {
    let (mut network, mut message_channel) = (None, None);
    let mut at = response_blocks(pdu)?;
    while at < pdu.len() {
        let (kind, length) = block_at(pdu, at, RESPONSE)?;
        let mut block = Reader::new(pdu.get(at + 4..at + length).unwrap_or_default(), RESPONSE);
        match kind {
            // The encryption method (2.2.1.4.3): none, inside TLS.
            SC_SECURITY if block.u32()? != 0 => return Err(RdpError::Encrypted),
            SC_NET if network.is_some() => return Err(RdpError::Malformed(RESPONSE)),
            SC_NET => {
                let (io, count) = (block.u16()?, usize::from(block.u16()?));
                let ids = block
                    .take(count * 2)?
                    .chunks_exact(2)
                    .map(|id| u16::from_le_bytes([id[0], id[1]]));
                network = Some((io, ids.collect::<Vec<u16>>()));
            }
            SC_MESSAGE_CHANNEL => message_channel = Some(block.u16()?),
            _ => {}
        }
        at += length;
    }
    let (io, ids) = network.ok_or(RdpError::Malformed(RESPONSE))?;
    channels.assign(io, message_channel, &ids)
}

/// Offset of the first block. The length before the response is ignored, as clients must (2.2.1.4:
/// servers write a constant there).
fn response_blocks(pdu: &[u8]) -> Result<usize, RdpError> {
    let mut reader = Reader::new(pdu, RESPONSE);
    reader.take(mcs::HEADER)?;
    reader.expect(&[0x7f, 0x66])?;
    expect_remaining(reader.ber_length()?, &reader)?;
    // Result, connection id, domain parameters.
    if reader.ber_element(0x0a)? != [0] {
        return Err(RdpError::Malformed(RESPONSE));
    }
    reader.ber_element(0x02)?;
    reader.ber_element(0x30)?;
    reader.expect(&[0x04])?;
    expect_remaining(reader.ber_length()?, &reader)?;
    reader.expect(T124)?;
    reader.per_length()?;
    // Choice, node id, a tag with its length, result.
    reader.take(3)?;
    let tag = reader.u8()?;
    reader.take(usize::from(tag) + 1)?;
    reader.expect(CREATE_RESPONSE)?;
    expect_remaining(reader.per_length()?, &reader)?;
    Ok(pdu.len() - reader.rest().len())
}
