//! Network Level Authentication: refused logins, and servers with invalid CredSSP.

use super::super::recording_audit::RecordedEvent;
use super::failures::{ACCOUNT, end_of, opened, refusal_status};
use super::harness::OpenedStream;
use crate::support::fake_rdp::{HYBRID, Identity, Login, confirm, credssp, negotiate, refuse};
use crate::support::xfreerdp::{CONNECTION_REQUEST, request_connection};
use tokio::io::{AsyncWriteExt, DuplexStream};

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
