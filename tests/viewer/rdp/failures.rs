//! Forbidden requests of a browser, and servers that send false data, refuse, hang, disconnect, or
//! are not the expected ones.

use super::super::harness::Harness;
use super::super::recording_audit::{RecordedEvent, RecordingAudit};
use super::harness::{OpenedStream, scripted, server};
use crate::support::fake_rdp::{HYBRID, Identity, RDP, TLS, confirm, failure, negotiate};
use crate::support::xfreerdp::{CONNECTION_REQUEST, request_connection};
use portcullis::domain::upstream::CredentialSource;
use portcullis::viewer::Timeouts;
use portcullis::viewer::stream_audit::CertificateCheck;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(super) const ACCOUNT: (&str, &str) = ("ada", "Secret-1");
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn opened() -> OpenedStream {
    scripted(server(Some(ACCOUNT)), Timeouts::default(), RecordingAudit::default())
}

fn opened_with_short_timeouts() -> OpenedStream {
    scripted(
        server(Some(ACCOUNT)),
        Timeouts { dial: HANDSHAKE_TIMEOUT, handshake: HANDSHAKE_TIMEOUT, ..Timeouts::default() },
        RecordingAudit::default(),
    )
}

/// Sends a valid request; returns the HTTP status of the refusal, if there was one.
pub(super) fn refusal_status(
    opened: &mut OpenedStream,
) -> tokio::task::JoinHandle<io::Result<Option<u16>>> {
    let (mut browser, destination) = (opened.stream.browser_stream(), opened.destination.clone());
    tokio::spawn(async move {
        let answer = request_connection(&mut browser, &CONNECTION_REQUEST, &destination).await?;
        Ok(answer.error.and_then(|error| error.http_status_code))
    })
}

/// Close code, close reason and reason code.
pub(super) async fn end_of(harness: Harness) -> (u16, String, &'static str) {
    let (end, _) = harness.end().await;
    let (code, reason) = end.close_frame();
    assert!(reason.len() <= 123, "{reason}");
    (code, reason.into_owned(), end.reason_code())
}

#[tokio::test]
async fn a_browser_names_another_destination() {
    let mut opened = opened();
    let audit = opened.stream.audit.clone();
    let mut browser = opened.stream.browser_stream();
    let answer =
        request_connection(&mut browser, &CONNECTION_REQUEST, "10.0.0.1:3389\n").await.unwrap();
    assert_eq!(answer.error.unwrap().http_status_code, Some(403));
    assert!(opened.stream.connections.try_recv().is_err(), "nothing is dialled");
    assert_eq!(end_of(opened.stream).await, (4007, "policy".into(), "other_destination"));
    assert_eq!(audit.events(), [RecordedEvent::DestinationRefused("10.0.0.1:3389".into())]);
}

#[tokio::test]
async fn a_browser_that_speaks_something_else() {
    for said in [
        &b"RFB 003.008\n"[..],
        &CONNECTION_REQUEST,
        &[0x30, 0x83, 0x10, 0, 0, 0xa0, 4, 2, 2, 0x0d, 0x3e],
        &[0xff; 64],
    ] {
        let opened = opened();
        opened.stream.browser.send(said).await;
        let (code, _, reason_code) = end_of(opened.stream).await;
        assert_eq!((code, reason_code), (1002, "browser_nonsense"), "{said:x?}");
    }
    let opened = opened();
    opened.stream.browser.send(&[0x30, 0x82, 0x40, 0]).await;
    opened.stream.browser.send(&[0; 16 * 1024]).await;
    assert_eq!(end_of(opened.stream).await.0, 1009);
}

#[tokio::test]
async fn a_browser_that_requests_nla_only_or_no_tls() {
    for protocols in [0, 2, 8] {
        let mut opened = opened();
        let mut connect = CONNECTION_REQUEST;
        connect[15] = protocols;
        let mut browser = opened.stream.browser_stream();
        let answer = request_connection(&mut browser, &connect, &opened.destination).await.unwrap();
        assert_eq!(answer.error.unwrap().http_status_code, Some(400));
        let (code, _, reason_code) = end_of(opened.stream).await;
        assert_eq!((code, reason_code), (1002, "rdp_protocol"), "{protocols}");
    }
}

#[tokio::test]
async fn a_browser_that_sends_no_request() {
    assert_eq!(
        end_of(opened_with_short_timeouts().stream).await,
        (1002, "The handshake took too long.".into(), "browser_idle")
    );
}

#[tokio::test]
async fn a_user_who_must_be_asked_first() {
    for source in [CredentialSource::User, CredentialSource::Ask] {
        let mut wanted = server(None);
        wanted.credential_source = source;
        let mut opened = scripted(wanted, Timeouts::default(), RecordingAudit::default());
        assert!(opened.stream.connections.try_recv().is_err(), "nothing is dialled");
        assert_eq!(
            end_of(opened.stream).await,
            (4005, source.as_str().into(), "credential_required")
        );
    }
}

#[tokio::test]
async fn a_refusal_of_the_server_has_a_reason() {
    for (reply, reason_code) in [
        (failure(1), "rdp_ssl_required"),
        (failure(2), "rdp_ssl_not_allowed"),
        (failure(3), "rdp_no_certificate"),
        (failure(4), "rdp_inconsistent_flags"),
        (failure(5), "rdp_nla_required"),
        (failure(6), "rdp_user_certificate_required"),
        (failure(77), "rdp_refused"),
        (confirm(RDP), "rdp_no_tls"),
        (vec![3, 0, 0, 11, 6, 0xd0, 0, 0, 0, 0, 0], "rdp_no_tls"),
        (confirm(8), "rdp_protocol"),
        (confirm(3), "rdp_protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "not_rdp"),
        ([&[3, 0, 0xff, 0xff][..], &[0; 8192]].concat(), "rdp_too_long"),
        (vec![3, 0, 0, 1], "rdp_malformed"),
    ] {
        let mut opened = opened();
        let asked = refusal_status(&mut opened);
        let mut desktop = opened.stream.desktop().await;
        // The gateway may close before it has read everything.
        assert_eq!(negotiate(&mut desktop, &reply).await.unwrap(), TLS | HYBRID);
        assert_eq!(asked.await.unwrap().unwrap(), Some(502), "{reason_code}");
        let (code, reason, word) = end_of(opened.stream).await;
        assert_eq!((code, word), (4002, reason_code));
        assert!(reason.starts_with("desktop: "), "{reason}");
    }
}

#[tokio::test]
async fn a_workspace_without_a_credential_and_a_server_that_requires_one() {
    let mut wanted = server(None);
    wanted.credential_source = CredentialSource::Workspace;
    let mut opened = scripted(wanted, Timeouts::default(), RecordingAudit::default());
    let _asked = refusal_status(&mut opened);
    let mut desktop = opened.stream.desktop().await;
    assert_eq!(
        negotiate(&mut desktop, &failure(5)).await.unwrap(),
        TLS,
        "nothing is there to prove before RDP begins"
    );
    assert_eq!(end_of(opened.stream).await, (4005, "workspace".into(), "credential_required"));
}

#[tokio::test]
async fn a_server_that_disconnects_anywhere_before_tls() {
    let reply = confirm(TLS);
    for n in 0..=reply.len() {
        let mut opened = opened();
        let _asked = refusal_status(&mut opened);
        let mut desktop = opened.stream.desktop().await;
        negotiate(&mut desktop, &reply[..n]).await.unwrap();
        drop(desktop);
        let (code, _, reason_code) = end_of(opened.stream).await;
        let expected = if n == reply.len() { "desktop_insecure" } else { "handshake_broken" };
        assert_eq!((code, reason_code), (4002, expected), "after {n} bytes");
    }
}

#[tokio::test]
async fn a_server_that_hangs() {
    for step in 0..3 {
        // Long enough for the other parts of the handshake on a busy machine.
        let timeouts = Timeouts { handshake: Duration::from_secs(3), ..Timeouts::default() };
        let mut opened = scripted(server(Some(ACCOUNT)), timeouts, RecordingAudit::default());
        let _asked = refusal_status(&mut opened);
        let mut desktop = opened.stream.desktop().await;
        let serving = tokio::spawn({
            let acceptor = if step == 2 { Some(Identity::new("desk.test")) } else { None };
            async move {
                if step > 0 {
                    negotiate(&mut desktop, &confirm(HYBRID)).await.unwrap();
                }
                let Some(identity) = acceptor else { return std::future::pending::<()>().await };
                let mut inside = identity.accept(desktop).await.unwrap();
                let _ = inside.read_to_end(&mut Vec::new()).await;
            }
        });
        let (code, _, reason_code) = end_of(opened.stream).await;
        // A busy machine may need all of the short time for TLS itself.
        assert!(
            ["handshake_broken", "desktop_insecure"].contains(&reason_code),
            "{step}: {reason_code}"
        );
        assert_eq!(code, 4002);
        serving.abort();
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls() {
    for said in [
        &[0x16, 3, 3, 0xff, 0xff][..],
        b"\x03\x00\x00\x0b\x06\xd0\0\0\0\0\0",
        &[0; 4096],
        &[0x15, 3, 3, 0, 2, 2, 40],
    ] {
        let mut opened = opened();
        let _asked = refusal_status(&mut opened);
        let mut desktop = opened.stream.desktop().await;
        negotiate(&mut desktop, &confirm(TLS)).await.unwrap();
        desktop.write_all(said).await.unwrap();
        desktop.shutdown().await.unwrap();
        let (code, reason, reason_code) = end_of(opened.stream).await;
        assert_eq!((code, reason_code), (4002, "desktop_insecure"), "{said:x?}");
        assert!(reason.starts_with("desktop: "), "{reason}");
    }
}

/// A stream to a server with this identity, by TLS alone, until the browser has its response: the
/// certificates, or the HTTP status of the refusal.
async fn by_tls(
    identity: &Identity,
    pin: &RecordingAudit,
) -> (OpenedStream, Result<Vec<Vec<u8>>, u16>) {
    let mut wanted = server(Some(ACCOUNT));
    wanted.trust.pin = pin.pin();
    let mut opened = scripted(wanted, Timeouts::default(), pin.clone());
    let (mut browser, destination) = (opened.stream.browser_stream(), opened.destination.clone());
    let asked = tokio::spawn(async move {
        request_connection(&mut browser, &CONNECTION_REQUEST, &destination).await.unwrap()
    });
    let mut desktop = opened.stream.desktop().await;
    negotiate(&mut desktop, &confirm(TLS)).await.unwrap();
    // The gateway closes the connection on a certificate it does not trust, perhaps before the
    // server has written everything.
    let _inside = identity.accept(desktop).await;
    let answer = asked.await.unwrap();
    let chain = answer
        .server_cert_chain
        .map(|chain| chain.into_iter().map(|c| c.as_bytes().to_vec()).collect());
    let shown = chain.ok_or_else(|| answer.error.unwrap().http_status_code.unwrap());
    (opened, shown)
}

#[tokio::test]
async fn another_certificate_is_refused_until_it_is_accepted() {
    let (first, second, audit) =
        (Identity::new("desk.test"), Identity::new("desk.test"), RecordingAudit::default());
    let (_opened, shown) = by_tls(&first, &audit).await;
    assert_eq!(shown, Ok(vec![first.certificate.clone()]), "the browser is shown the server's own");
    let (opened, shown) = by_tls(&second, &audit).await;
    assert_eq!(shown, Err(403));
    assert_eq!(
        end_of(opened.stream).await,
        (4004, "certificate_changed".into(), "certificate_refused")
    );
    let Some(RecordedEvent::CertificateChecked(seen, CertificateCheck::Refused)) =
        audit.events().pop()
    else {
        panic!("{:?}", audit.events())
    };
    audit.accept_pin(seen.fingerprint);
    assert_eq!(by_tls(&second, &audit).await.1, Ok(vec![second.certificate.clone()]));
}
