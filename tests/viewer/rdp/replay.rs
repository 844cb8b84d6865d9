//! After the connection sequence: a captured conversation is replayed on both sides up to the
//! login, then the server misbehaves.

use super::super::recording_audit::{RecordedEvent, RecordingAudit};
use super::harness::{OpenedStream, scripted, server};
use crate::support::fake_rdp::{Identity, TLS, confirm, negotiate};
use crate::support::xfreerdp::{CONNECTION_REQUEST, request_connection};
use portcullis::domain::upstream::{StreamPolicy, Upstream};
use portcullis::protocol::rdp::frame::{Framer, Measure};
use portcullis::viewer::Timeouts;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

const ACCOUNT: (&str, &str) = ("ada", "Secret-1");
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A stream whose client has just sent its Client Info PDU.
struct Replay {
    harness: OpenedStream,
    browser: DuplexStream,
    desktop: TlsStream<DuplexStream>,
    /// The Client Info PDU as the server received it.
    info: Vec<u8>,
    /// Everything the browser received.
    received: Vec<u8>,
}

/// Without the negotiation; `true`: from the client.
fn capture() -> Vec<(bool, Vec<u8>)> {
    let lines = include_str!("../../protocol/rdp/xrdp.txt").lines().skip(2);
    lines.map(|line| (line.starts_with('>'), hex::decode(&line[2..]).unwrap())).collect()
}

/// Whether a client's PDU is the Client Info PDU: data whose security header has `SEC_INFO_PKT`.
fn is_info(pdu: &[u8]) -> bool {
    let at = if pdu.get(13).is_some_and(|length| length & 0x80 != 0) { 15 } else { 14 };
    pdu.get(7) == Some(&0x64) && pdu.get(at).is_some_and(|flags| flags & 0x40 != 0)
}

async fn read_pdu(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut pdu = Vec::new();
    loop {
        let need = match Framer::new().measure(&pdu).map_err(io::Error::other)? {
            Measure::Need(n) => n,
            Measure::Known(frame) => frame.length,
        };
        if pdu.len() == need {
            return Ok(pdu);
        }
        let seen = pdu.len();
        pdu.resize(need, 0);
        stream.read_exact(&mut pdu[seen..]).await?;
    }
}

async fn play(wanted: Upstream, timeouts: Timeouts) -> Replay {
    let mut opened = scripted(wanted, timeouts, RecordingAudit::default());
    let (mut browser, destination) = (opened.stream.browser_stream(), opened.destination.clone());
    let asked = tokio::spawn(async move {
        let answer =
            request_connection(&mut browser, &CONNECTION_REQUEST, &destination).await.unwrap();
        (browser, answer.to_der().unwrap())
    });
    let mut desktop = opened.stream.desktop().await;
    negotiate(&mut desktop, &confirm(TLS)).await.unwrap();
    let mut desktop = Identity::new("desk.test").accept(desktop).await.unwrap();
    let (mut browser, mut received) = asked.await.unwrap();
    let mut info = Vec::new();
    let replay = async {
        for (up, pdu) in capture() {
            if up {
                browser.write_all(&pdu).await.unwrap();
                info = read_pdu(&mut desktop).await.unwrap();
                if is_info(&pdu) {
                    return;
                }
            } else {
                desktop.write_all(&pdu).await.unwrap();
                desktop.flush().await.unwrap();
                let mut passed = vec![0; pdu.len()];
                browser.read_exact(&mut passed).await.unwrap();
                assert_eq!(passed, pdu, "what the server says passes untouched");
                received.extend_from_slice(&passed);
            }
        }
        panic!("the capture has no Client Info");
    };
    timeout(READ_TIMEOUT, replay).await.expect("it is played");
    Replay { harness: opened, browser, desktop, info, received }
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

impl Replay {
    async fn end(self) -> (u16, String, &'static str) {
        let (end, _) = self.harness.stream.end().await;
        let (code, reason) = end.close_frame();
        (code, reason.into_owned(), end.reason_code())
    }
}

/// A Demand Active PDU for a screen of this size, in an MCS indication on the I/O channel of the
/// capture.
fn demand(width: u16, height: u16) -> Vec<u8> {
    let mut share = vec![
        0, 0, 0x11, 0, 0xea, 3, 1, 0, 1, 0, 4, 0, 0, 0, b'R', b'D', b'P', 0, 1, 0, 0, 0, 2, 0,
        0x1c, 0,
    ];
    share.extend([32u16, 1, 1, 1, width, height].iter().flat_map(|n| n.to_le_bytes()));
    share.resize(share.len() + 12, 0);
    share[0] = u8::try_from(share.len()).unwrap();
    let mut pdu = vec![
        3,
        0,
        0,
        u8::try_from(share.len() + 15).unwrap(),
        2,
        0xf0,
        0x80,
        0x68,
        0,
        1,
        3,
        0xeb,
        0x70,
        0x80,
        share[0],
    ];
    pdu.extend(share);
    pdu
}

#[tokio::test]
async fn the_credential_is_written_for_the_server_only() {
    let replay = play(server(Some(ACCOUNT)), Timeouts::default()).await;
    assert!(holds(&replay.info, &wide("ada")) && holds(&replay.info, &wide("Secret-1")));
    assert!(!holds(&replay.received, &wide("Secret-1")) && !holds(&replay.received, b"Secret-1"));
    let sent = capture().into_iter().find(|(up, pdu)| *up && is_info(pdu)).unwrap().1;
    assert!(!holds(&sent, &wide("ada")), "the client knew nothing of it");
}

#[tokio::test]
async fn an_invalid_desktop_size_ends_the_stream_before_it_is_forwarded() {
    let mut replay = play(server(Some(ACCOUNT)), Timeouts::default()).await;
    replay.desktop.write_all(&demand(60_000, 60_000)).await.unwrap();
    replay.desktop.flush().await.unwrap();
    let mut rest = Vec::new();
    timeout(READ_TIMEOUT, async {
        let (end, _) = replay.harness.stream.end().await;
        assert_eq!(
            (end.close_frame(), end.reason_code()),
            (
                (4002, "desktop: It names a screen of a size that cannot be.".into()),
                "rdp_desktop_size"
            )
        );
        assert!(end.cause().unwrap().to_string().contains("60000 x 60000"), "{end:?}");
        let _ = replay.browser.read_to_end(&mut rest).await;
    })
    .await
    .expect("it ends");
    assert!(rest.is_empty(), "{rest:x?}");
}

/// A PDU of share data (2.2.8.1.1.1.2), in an MCS indication on the I/O channel of the capture.
fn share_data(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(18 + body.len()).unwrap();
    let mut pdu =
        vec![3, 0, 0, length + 15, 2, 0xf0, 0x80, 0x68, 0, 1, 3, 0xeb, 0x70, 0x80, length];
    pdu.extend([length, 0, 0x17, 0, 0xea, 3, 1, 0, 1, 0, 0, 1, 4, 0, kind, 0, 0, 0]);
    pdu.extend(body);
    pdu
}

/// MCS Disconnect Provider Ultimatum.
const DISCONNECT_ULTIMATUM: [u8; 9] = [3, 0, 0, 9, 2, 0xf0, 0x80, 0x21, 0x80];

/// End of a stream whose server announces this reason. `rude`: the server then waits until its
/// client disconnects.
async fn error_info_end(code: u32, rude: bool) -> (u16, String, &'static str, Vec<RecordedEvent>) {
    let mut replay = play(server(Some(ACCOUNT)), Timeouts::default()).await;
    let audit = replay.harness.stream.audit.clone();
    let said = [&share_data(0x2f, &code.to_le_bytes())[..], &DISCONNECT_ULTIMATUM].concat();
    replay.desktop.write_all(&said).await.unwrap();
    replay.desktop.flush().await.unwrap();
    let mut passed = vec![0; said.len()];
    timeout(READ_TIMEOUT, replay.browser.read_exact(&mut passed))
        .await
        .expect("it passes")
        .unwrap();
    assert_eq!(passed, said, "the browser hears it, too");
    if rude {
        drop(replay.browser);
        let (end, _) = replay.harness.stream.end().await;
        return (
            end.close_frame().0,
            end.close_frame().1.into_owned(),
            end.reason_code(),
            audit.events(),
        );
    }
    replay.desktop.shutdown().await.unwrap();
    let (code, reason, reason_code) = replay.end().await;
    (code, reason, reason_code, audit.events())
}

#[tokio::test]
async fn the_servers_error_info_is_the_reason_of_the_end() {
    for (code, word) in [
        (0x01, "desktop_by_admin"),
        (0x03, "desktop_idle_timeout"),
        (0x04, "desktop_time_limit"),
        (0x05, "desktop_taken_over"),
        (0x07, "desktop_denied"),
        (0x0c, "desktop_signed_out"),
        (0x17, "desktop_crashed"),
        (0x1a, "desktop_going_down"),
        (0x102, "desktop_licence"),
        (0x400, "desktop_broker"),
        (0x10d4, "desktop_protocol"),
    ] {
        let (close, reason, reason_code, _) = error_info_end(code, false).await;
        assert_eq!((close, &*reason, reason_code), (4008, word, word), "{code:#x}");
    }
    let (close, reason, reason_code, _) = error_info_end(5, true).await;
    assert_eq!(
        (close, &*reason, reason_code),
        (4008, "desktop_taken_over", "desktop_taken_over"),
        "whoever hangs up first"
    );
    assert_eq!(error_info_end(0, false).await.2, "desktop_gone", "nothing is wrong, it says");
}

#[tokio::test]
async fn a_login_refused_inside_rdp_is_recorded() {
    for (code, word) in [(0x09, "logon_not_granted"), (0x0a, "credential_must_be_typed")] {
        let (close, reason, reason_code, lines) = error_info_end(code, false).await;
        assert_eq!((close, reason, reason_code), (4006, format!("user {word}"), word));
        assert_eq!(lines.last(), Some(&RecordedEvent::LoginRefused(word)));
    }
}

#[tokio::test]
async fn a_redirection_ends_the_stream_and_is_not_forwarded() {
    let mut replay = play(server(Some(ACCOUNT)), Timeouts::default()).await;
    // A Server Redirection PDU (2.2.13.3.1), as far as its header.
    let mut pdu = share_data(0, &[0; 20]);
    pdu[17] = 0x1a;
    replay.desktop.write_all(&pdu).await.unwrap();
    replay.desktop.flush().await.unwrap();
    let mut rest = Vec::new();
    timeout(READ_TIMEOUT, async {
        let (end, _) = replay.harness.stream.end().await;
        assert_eq!(
            (end.close_frame(), end.reason_code()),
            ((4007, "redirected".into()), "rdp_redirected")
        );
        let _ = replay.browser.read_to_end(&mut rest).await;
    })
    .await
    .expect("it ends");
    assert!(rest.is_empty(), "{rest:x?}");
}

#[tokio::test]
async fn a_real_screen_passes() {
    let mut replay = play(server(Some(ACCOUNT)), Timeouts::default()).await;
    let pdu = demand(1920, 1080);
    replay.desktop.write_all(&pdu).await.unwrap();
    replay.desktop.flush().await.unwrap();
    let mut passed = vec![0; pdu.len()];
    timeout(READ_TIMEOUT, replay.browser.read_exact(&mut passed))
        .await
        .expect("it passes")
        .unwrap();
    assert_eq!(passed, pdu);
}

#[tokio::test]
async fn invalid_and_truncated_pdus_end_the_stream_only() {
    for seed in 0..8 {
        let mut replay = play(server(Some(ACCOUNT)), Timeouts::default()).await;
        let mut random = StdRng::seed_from_u64(seed);
        let mut noise = vec![0; 32 * 1024];
        random.fill_bytes(&mut noise);
        if seed % 2 == 0 {
            // As TPKT with a false length.
            noise[..4].copy_from_slice(&[3, 0, 0xff, 0xff]);
        }
        // The gateway closes the connection as soon as it has read enough.
        let _ = replay.desktop.write_all(&noise).await;
        let _ = replay.desktop.shutdown().await;
        let drained =
            tokio::spawn(async move { replay.browser.read_to_end(&mut Vec::new()).await });
        let (end, _) = replay.harness.stream.end().await;
        assert!([4002, 4007].contains(&end.close_frame().0), "{seed}: {end:?}");
        let _ = drained.await;
    }
}

#[tokio::test]
async fn pdus_out_of_order_from_the_browser_end_the_stream() {
    let mut replay = play(server(Some(ACCOUNT)), Timeouts::default()).await;
    // A second Connect-Initial, which would change the channel list.
    let initial = capture().into_iter().find(|(up, _)| *up).unwrap().1;
    replay.browser.write_all(&initial).await.unwrap();
    let (code, _, reason_code) = replay.end().await;
    assert_eq!((code, reason_code), (1002, "browser_malformed"));
}

#[tokio::test]
async fn a_browser_that_reads_nothing_stops_the_server() {
    let mut wanted = server(Some(ACCOUNT));
    wanted.policy = StreamPolicy { files: true, ..StreamPolicy::default() };
    let mut replay =
        play(wanted, Timeouts { pong: Duration::from_secs(120), ..Timeouts::default() }).await;
    // Endless fast-path pictures: nobody reads `replay.browser`.
    let mut update = vec![0; 0x4000];
    update[..3].copy_from_slice(&[0, 0xc0, 0]);
    let mut taken = 0;
    while taken < 64 << 20 {
        match timeout(Duration::from_secs(3), replay.desktop.write_all(&update)).await {
            Ok(written) => written.unwrap(),
            Err(_) => break,
        }
        taken += update.len();
    }
    assert!(taken < 2 << 20, "{taken} bytes were taken from the server");
    assert!(!replay.harness.stream.end.is_finished(), "and it waits");
}
