//! Writes what was captured of real peers as the first inputs, into the folder that `FUZZ_SEEDS`
//! names, a folder for each target in it.

use ironrdp_rdcleanpath::RDCleanPathPdu;
use std::{env, fs, io, path::Path};

const RDP: [&str; 2] = [include_str!("../protocol/rdp/xrdp.txt"), include_str!("../protocol/rdp/shadow.txt")];
const RFB: [(u8, &[u8]); 2] =
    [(8, include_bytes!("../protocol/captured/novnc-1.7.bin")), (0, include_bytes!("../protocol/captured/tigervnc-1.12.bin"))];
/// What desktops say until they are proved to: every type, VncAuth's challenge, VeNCrypt's lists.
const DESKTOPS: [&[u8]; 4] = [
    b"RFB 003.008\n\x01\x01\0\0\0\0",
    b"RFB 003.008\n\x02\x02\x130123456789abcdef\0\0\0\0",
    b"RFB 003.003\n\0\0\0\x020123456789abcdef\0\0\0\0",
    b"RFB 003.008\n\x01\x13\0\x02\0\x06\0\0\x01\x01\0\0\x01\x02\0\0\x01\x03\0\0\x01\x04\0\0\x01\x05\0\0\x01\x06\x010123456789abcdef\0\0\0\0",
];
/// Answers of web applications, framed in every way there is, and in two at once.
const ANSWERS: [&[u8]; 5] = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
    b"HTTP/1.0 302 Found\r\nLocation: /x\r\nConnection: keep-alive\r\n\r\nto the end",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
];
/// Most bytes of one input: libFuzzer tries long ones slowly.
const LONGEST: usize = 8 * 1024 - 1;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=FUZZ_SEEDS");
    let Ok(folder) = env::var("FUZZ_SEEDS") else { return Ok(()) };
    let put = |target: &str, name: String, choice: u8, bytes: &[u8]| {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), [&[choice], &bytes[..bytes.len().min(LONGEST)]].concat())
    };
    for (which, text) in RDP.iter().enumerate() {
        let pdus: Vec<(bool, Vec<u8>)> =
            text.lines().filter_map(|line| line.split_once(' ')).map(|(way, pdu)| (way == ">", hex::decode(pdu).unwrap_or_default())).collect();
        for (at, (_, pdu)) in pdus.iter().take(5).enumerate() {
            put("rdp_negotiation", format!("{which}-{at}"), 0x2c, pdu)?;
        }
        for choice in [0, 7, 9, 0x1b] {
            put("rdp_filter", format!("{which}-{choice}"), choice, &write(&pdus[2..]))?;
        }
    }
    for (name, pdu) in requests() {
        // This target has no byte of choices before its input.
        let Some((choice, rest)) = pdu.split_first() else { continue };
        put("cleanpath", name.to_owned(), *choice, rest)?;
    }
    for (name, packet) in segments() {
        let Some((first, rest)) = packet.split_first() else { continue };
        put("tcp_segment", name.to_owned(), *first, rest)?;
    }
    // Long runs of choices: short inputs end before a connection has done much.
    for target in ["tcp_connection", "tcp_transfer", "hub_initiations"] {
        for seed in 1..=8u8 {
            put(target, format!("random-{seed}"), seed, &random(seed, 512 << (seed % 4)))?;
        }
    }
    for (which, (choice, bytes)) in RFB.iter().enumerate() {
        for rules in [0, 4, 7] {
            put("rfb_filter", format!("{which}-{rules}"), choice | rules, bytes)?;
        }
    }
    for (which, bytes) in DESKTOPS.iter().enumerate() {
        for proof in [0, 2, 3, 7] {
            put("rfb_handshakes", format!("{which}-{proof}"), proof, bytes)?;
        }
    }
    for (which, bytes) in ANSWERS.iter().enumerate() {
        for choice in [0, 7] {
            put("http1_answers", format!("{which}-{choice}"), choice, bytes)?;
        }
    }
    put("rfb_handshakes", "browser".to_owned(), 8, b"RFB 003.008\n\x01")
}

/// What browsers ask for, and what they should not.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let connect = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0].to_vec();
    let mut cookie = b"\x03\0\0\x2a\x25\xe0\0\0\0\0\0Cookie: mstshash=ada\r\n".to_vec();
    cookie.extend_from_slice(&connect[11..]);
    let request = |connect: &[u8], blob: Option<&str>| {
        RDCleanPathPdu::new_request(connect.to_vec(), "session:1".to_owned(), "x".to_owned(), blob.map(str::to_owned))
    };
    let made = [("plain", request(&connect, None)), ("cookie", request(&cookie, None)), ("blob", request(&connect, Some("vm")))];
    let refusal = ("refusal", RDCleanPathPdu::new_http_error(403).to_der());
    let made = made.into_iter().filter_map(|(name, pdu)| Some((name, pdu.ok()?.to_der())));
    made.chain([refusal]).filter_map(|(name, bytes)| Some((name, bytes.ok()?))).collect()
}

fn random(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed);
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// TCP segments in IPv4 and IPv6 packets: a SYN with options, data, an ACK with SACK blocks.
fn segments() -> Vec<(&'static str, Vec<u8>)> {
    let syn: &[u8] = &[2, 4, 5, 100, 1, 3, 3, 7, 1, 1, 4, 2, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0];
    let sack: &[u8] = &[1, 1, 5, 18, 0, 0, 0, 9, 0, 0, 0, 12, 0, 0, 0, 20, 0, 0, 0, 30];
    [
        ("syn-v4", false, 2, syn, &[] as &[u8]),
        ("data-v4", false, 24, &[], b"data"),
        ("sack-v4", false, 16, sack, b""),
        ("syn-v6", true, 2, syn, b""),
        ("data-v6", true, 25, &[], b"odd"),
    ]
    .map(|(name, v6, flags, options, payload)| (name, segment(v6, flags, options, payload)))
    .into()
}

fn segment(v6: bool, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut tcp = vec![195, 80, 23, 12, 0, 0, 0, 7, 0, 0, 0, 9];
    tcp.extend([(20 + options.len() as u8) / 4 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend([options, payload].concat());
    let addresses = if v6 {
        [[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]].concat()
    } else {
        vec![10, 64, 0, 1, 10, 64, 0, 2]
    };
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let mut sum = words(&addresses) + 6 + tcp.len() as u32 + words(&tcp);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut packet = if v6 {
        vec![0x60, 0, 0, 0, 0, tcp.len() as u8, 6, 64]
    } else {
        vec![0x45, 0, 0, 20 + tcp.len() as u8, 0, 0, 0x40, 0, 64, 6, 0, 0]
    };
    packet.extend(addresses);
    packet.extend(tcp);
    packet
}

/// A conversation, as `lib.rs` reads it; `true` is up.
fn write(pieces: &[(bool, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (up, piece) in pieces {
        for part in piece.chunks(usize::from(u16::MAX)) {
            bytes.push(u8::from(*up));
            bytes.extend_from_slice(&u16::try_from(part.len()).unwrap_or_default().to_be_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}
