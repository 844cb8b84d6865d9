//! Forbidden requests of a browser, and servers that send false data, refuse, hang, disconnect, or
//! are not the expected ones.

use super::super::harness::Harness;
use super::super::recording_audit::{RecordedEvent, RecordingAudit};
use super::harness::{OpenedStream, scripted, server};
use crate::support::fake_rdp::{
    HYBRID, Identity, Login, RDP, TLS, confirm, credssp, failure, negotiate, refuse,
};
use crate::support::xfreerdp::{CONNECTION_REQUEST, request_connection};
use portcullis::domain::upstream::CredentialSource;
use portcullis::viewer::Timeouts;
use portcullis::viewer::stream_audit::CertificateCheck;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const ACCOUNT: (&str, &str) = ("ada", "Secret-1");
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);

fn opened() -> OpenedStream {
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
fn refusal_status(opened: &mut OpenedStream) -> tokio::task::JoinHandle<io::Result<Option<u16>>> {
    let (mut browser, destination) = (opened.stream.browser_stream(), opened.destination.clone());
    tokio::spawn(async move {
        let answer = request_connection(&mut browser, &CONNECTION_REQUEST, &destination).await?;
        Ok(answer.error.and_then(|error| error.http_status_code))
    })
}

/// Close code, close reason and reason code.
async fn end_of(harness: Harness) -> (u16, String, &'static str) {
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

/// A server that requires NLA, after TLS.
async fn at_nla(
    opened: &mut OpenedStream,
    identity: &Identity,
) -> tokio_rustls::server::TlsStream<DuplexStream> {
    let mut desktop = opened.stream.desktop().await;
    negotiate(&mut desktop, &confirm(HYBRID)).await.unwrap();
    identity.accept(desktop).await.unwrap()
}

#[tokio::test]
async fn the_gateway_performs_nla_and_the_browser_sees_tls_only() {
    let (mut opened, identity) = (opened(), Identity::new("desk.test"));
    let (mut browser, destination) = (opened.stream.browser_stream(), opened.destination.clone());
    let asked = tokio::spawn(async move {
        request_connection(&mut browser, &CONNECTION_REQUEST, &destination).await.unwrap()
    });
    let mut inside = at_nla(&mut opened, &identity).await;
    let login = credssp(&mut inside, &identity, ACCOUNT, None).await.unwrap();
    assert_eq!(login, Login::In("ada".into(), "Secret-1".into()));
    let answer = asked.await.unwrap();
    assert_eq!(answer.x224_connection_pdu.unwrap().as_bytes()[11..], [2, 1, 8, 0, 1, 0, 0, 0]);
    assert_eq!(answer.server_cert_chain.unwrap()[0].as_bytes(), identity.certificate);
    assert_eq!(answer.server_addr, Some(opened.destination));
}

#[tokio::test]
async fn a_refused_login_has_the_servers_reason() {
    let identity = Identity::new("desk.test");
    for (status, word) in [
        (Some(0xc000_006d), "wrong_password"),
        (Some(0x8009_030c), "wrong_password"),
        (Some(0xc000_0234), "account_locked"),
        // The same in an HRESULT, and as a Win32 error.
        (Some(0xd000_0234), "account_locked"),
        (Some(0x8007_0775), "account_locked"),
        (Some(0xc000_0072), "account_disabled"),
        (Some(0xc000_0193), "account_expired"),
        (Some(0xc000_0071), "password_expired"),
        (Some(0xc000_0224), "password_must_change"),
        (Some(0xc000_006e), "logon_restricted"),
        (Some(0xc000_006f), "logon_restricted"),
        (Some(0xc000_0070), "logon_restricted"),
        (Some(0xc000_0155), "logon_not_granted"),
        (Some(0xc000_015b), "logon_not_granted"),
        (Some(0xc000_0413), "logon_not_granted"),
        (Some(0xc000_02fa), "smart_card_required"),
        (Some(0xc000_0418), "ntlm_blocked"),
        (Some(0xc000_005e), "no_logon_server"),
        (Some(0xc000_018d), "no_logon_server"),
        (Some(0x8009_0302), "refused"),
        (None, "refused"),
    ] {
        let mut opened = opened();
        let (audit, asked) = (opened.stream.audit.clone(), refusal_status(&mut opened));
        let mut inside = at_nla(&mut opened, &identity).await;
        assert_eq!(
            credssp(&mut inside, &identity, ("ada", "another"), status).await.unwrap(),
            Login::Refused
        );
        assert_eq!(asked.await.unwrap().unwrap(), Some(401));
        assert_eq!(end_of(opened.stream).await, (4006, format!("user {word}"), word));
        assert_eq!(audit.events().last(), Some(&RecordedEvent::LoginRefused(word)), "{status:x?}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_before_it_has_seen_any_proof() {
    let (mut opened, identity) = (opened(), Identity::new("desk.test"));
    let _asked = refusal_status(&mut opened);
    let mut inside = at_nla(&mut opened, &identity).await;
    refuse(&mut inside, 0xc000_0234).await.unwrap();
    assert_eq!(end_of(opened.stream).await, (4006, "user account_locked".into(), "account_locked"));
}

#[tokio::test]
async fn a_server_that_refuses_after_the_login() {
    let (mut opened, identity) = (opened(), Identity::new("desk.test"));
    let (mut browser, destination) = (opened.stream.browser_stream(), opened.destination.clone());
    let asked = tokio::spawn(async move {
        request_connection(&mut browser, &CONNECTION_REQUEST, &destination).await.unwrap();
        browser
    });
    let mut inside = at_nla(&mut opened, &identity).await;
    credssp(&mut inside, &identity, ACCOUNT, None).await.unwrap();
    let _browser = asked.await.unwrap();
    refuse(&mut inside, 0xc000_015b).await.unwrap();
    assert_eq!(
        end_of(opened.stream).await,
        (4006, "user logon_not_granted".into(), "logon_not_granted")
    );
}

#[tokio::test]
async fn a_server_that_does_not_hold_the_certificates_key_or_the_password() {
    // It has another key and binds that one, as a man in the middle would.
    let (mut opened, identity, other) =
        (opened(), Identity::new("desk.test"), Identity::new("desk.test"));
    let asked = refusal_status(&mut opened);
    let mut inside = at_nla(&mut opened, &identity).await;
    let login = credssp(&mut inside, &other, ACCOUNT, None).await.unwrap();
    assert_eq!(login, Login::Refused, "the credential is not delegated");
    assert!(asked.await.unwrap().unwrap().is_some());
    let (code, _, reason_code) = end_of(opened.stream).await;
    assert!([4002, 4006].contains(&code), "{code} {reason_code}");
}

#[tokio::test]
async fn a_server_with_invalid_credssp() {
    let identity = Identity::new("desk.test");
    for said in [
        &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        &[3, 0, 0, 11, 6, 0xd0, 0, 0, 0, 0, 0],
        &[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff],
        &[0x30, 0x82, 0xff, 0xff],
        &[0x30, 0x80],
        &[0x30, 3, 1, 2, 3],
        // A version, and invalid tokens.
        &[0x30, 5, 0xa0, 3, 2, 1, 6],
        &[0x30, 16, 0xa0, 3, 2, 1, 6, 0xa1, 9, 0x30, 7, 0x30, 5, 0xa0, 3, 4, 1, 0],
    ] {
        let mut opened = opened();
        let asked = refusal_status(&mut opened);
        let mut inside = at_nla(&mut opened, &identity).await;
        inside.write_all(said).await.unwrap();
        inside.flush().await.unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), Some(502), "{said:x?}");
        let (code, reason, reason_code) = end_of(opened.stream).await;
        assert_eq!((code, reason_code), (4002, "nla_broken"), "{said:x?}");
        assert!(reason.starts_with("desktop: "), "{reason}");
    }
}
