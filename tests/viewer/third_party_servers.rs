//! VNC servers of other projects: every security type, with right and wrong credentials, changed
//! certificates, other clients.

use super::desktop::{Desktop, TIMEOUT};
use super::harness::{Harness, PASSWORD, server};
use super::recording_audit::{RecordedEvent, RecordingAudit};
use super::tigervnc_accounts::{
    ACCOUNT, SERVER_TIMEOUT, offering, offering_in, pinned, server_for, with,
};
use crate::support::free_port;
use crate::support::pdeathsig::pdeathsig_command;
use crate::support::vnc::VncClient;
use crate::support::wait::eventually;
use futures_util::future::FutureExt;
use portcullis::domain::OrganizationId;
use portcullis::domain::upstream::{
    CredentialSource, Fingerprint, ProtocolSettings, TrustRule, Upstream, UpstreamTrust,
};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::viewer::stream_audit::CertificateCheck;
use portcullis::viewer::stream_end::StreamEnd;
use portcullis::viewer::{Duplex, Timeouts};
use std::path::Path;
use std::process::Stdio;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

/// The end of a stream that fails before the relay.
async fn refused(harness: Harness) -> StreamEnd {
    timeout(TIMEOUT, harness.end()).await.expect("it ends").0
}

#[tokio::test]
async fn every_security_type_of_a_real_server() {
    for kind in
        ["None", "VncAuth", "TLSNone", "TLSVnc", "TLSPlain", "X509None", "X509Vnc", "X509Plain"]
    {
        let desktop = offering(kind).await;
        let audit = RecordingAudit::default();
        let (_rig, mut client) = desktop.open_as(server_for(kind), audit.clone()).await;
        timeout(TIMEOUT, client.frame())
            .await
            .unwrap_or_else(|_| panic!("{kind}: a frame"))
            .unwrap();
        assert_eq!(
            (client.width, client.height, client.name.as_str()),
            (640, 480, "Linux Desktop"),
            "{kind}"
        );
        if kind.starts_with("X509") {
            assert!(
                matches!(
                    &audit.events()[..],
                    [RecordedEvent::CertificateChecked(_, CertificateCheck::Trusted)]
                ),
                "{kind}: {:?}",
                audit.events()
            );
            // Pinned now: only TLS with this certificate is accepted.
            let (_rig, mut client) =
                desktop.open_as(pinned(server_for(kind), &audit), audit.clone()).await;
            timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
        }
        assert_eq!(audit.events().len(), usize::from(kind.starts_with("X509")), "{kind}");
    }
}

#[tokio::test]
async fn the_best_common_security_type_is_chosen() {
    let desktop = offering("VncAuth,None,TLSVnc,X509Vnc").await;
    let audit = RecordingAudit::default();
    let (_rig, mut client) = desktop.open_as(with("", PASSWORD), audit.clone()).await;
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
    assert!(
        matches!(
            &audit.events()[..],
            [RecordedEvent::CertificateChecked(_, CertificateCheck::Trusted)]
        ),
        "the one with a certificate: {:?}",
        audit.events()
    );
}

#[tokio::test]
async fn a_subtype_that_failed_is_not_chosen_again() {
    // It offers types with a certificate, and has none.
    let desktop = offering_in(tempfile::tempdir().unwrap(), "X509Vnc,TLSVnc").await;
    let audit = RecordingAudit::default();
    let (_rig, mut client) = desktop.open_as(with("", PASSWORD), audit.clone()).await;
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
    assert_eq!(audit.events(), [], "the one without a certificate");
    // Where a certificate is expected, no weaker type is accepted.
    let rule = TrustRule::Pinned(Fingerprint::parse(&"00".repeat(32)).unwrap());
    let end = refused(desktop.attach_as(
        Upstream { trust: UpstreamTrust { rule, pin: None }, ..with("", PASSWORD) },
        audit.clone(),
    ))
    .await;
    assert_eq!((end.close_frame().0, end.reason_code()), (4002, "rfb_declined"), "{end:?}");
    // The only type failed: reported.
    let desktop = offering_in(tempfile::tempdir().unwrap(), "X509Vnc").await;
    let end = refused(desktop.attach_as(with("", PASSWORD), audit)).await;
    assert_eq!((end.close_frame().0, end.reason_code()), (4002, "rfb_declined"), "{end:?}");
}

#[tokio::test]
async fn wrong_credentials_are_reported_and_recorded() {
    for (kind, server) in [
        ("VncAuth", with("", "wrong")),
        ("TLSVnc", with("", "wrong")),
        ("TLSPlain", with(ACCOUNT.0, "wrong")),
        ("X509Plain", with("eve", ACCOUNT.1)),
        ("X509Vnc", with("", "wrong")),
    ] {
        let desktop = offering(kind).await;
        let server = Upstream { credential_source: CredentialSource::User, ..server };
        let harness = desktop.attach_as(server, RecordingAudit::default());
        let audit = harness.audit.clone();
        let end = refused(harness).await;
        assert_eq!(
            (end.close_frame(), end.reason_code()),
            ((4006, "user rfb_denied".into()), "rfb_denied"),
            "{kind}: {end:?}"
        );
        assert_eq!(
            audit.events().last(),
            Some(&RecordedEvent::LoginRefused("rfb_denied")),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_server_that_requires_what_the_workspace_does_not_have() {
    for (kind, server) in [
        ("VncAuth", with("", "")),
        ("None", with("", PASSWORD)),
        ("X509Plain", with("", PASSWORD)),
        ("TLSNone", with("ada", "x")),
    ] {
        let end = refused(offering(kind).await.attach_as(server, RecordingAudit::default())).await;
        assert_eq!(end.close_frame().0, 4002, "{kind}");
        assert_eq!(
            end.close_frame().1,
            "desktop: The desktop asks for another proof than this workspace has.",
            "{kind}: {end:?}"
        );
    }
}

#[tokio::test]
async fn a_required_credential_is_requested_before_dialling() {
    for source in [CredentialSource::User, CredentialSource::Ask] {
        let harness = Harness::with_lease(
            super::harness::lease_to(
                OrganizationId::new(),
                WorkspaceKind::Vnc,
                Upstream { credential: None, credential_source: source, ..server() },
            ),
            super::harness::FnDialer(|| panic!("nothing is dialled")),
            tokio::sync::mpsc::unbounded_channel().1,
            Timeouts::default(),
            RecordingAudit::default(),
        );
        assert_eq!(refused(harness).await.close_frame(), (4005, source.as_str().into()));
    }
}

#[tokio::test]
async fn another_certificate_is_refused_until_it_is_accepted() {
    let audit = RecordingAudit::default();
    let desktop = offering("X509Vnc").await;
    let (harness, mut client) = desktop.open_as(with("", PASSWORD), audit.clone()).await;
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
    drop((harness, client));
    let first = audit.pin().unwrap();

    drop(desktop);
    let other = offering("X509Vnc").await;
    let end = refused(other.attach_as(pinned(with("", PASSWORD), &audit), audit.clone())).await;
    assert_eq!(
        (end.close_frame(), end.reason_code()),
        ((4004, "certificate_changed".into()), "certificate_refused")
    );
    let lines = audit.events();
    let Some(RecordedEvent::CertificateChecked(offered, CertificateCheck::Refused)) = lines.last()
    else {
        panic!("{lines:?}")
    };
    assert_ne!(offered.fingerprint, first);

    audit.accept_pin(offered.fingerprint);
    let (_rig, mut client) = other.open_as(pinned(with("", PASSWORD), &audit), audit.clone()).await;
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_pinned_certificate_that_is_not_shown_any_more_is_an_error() {
    let audit = RecordingAudit::default();
    audit.accept_pin(portcullis::domain::upstream::Fingerprint([7; 32]));
    for kind in ["VncAuth", "TLSVnc", "TLSVnc,VncAuth"] {
        let end = refused(
            offering(kind).await.attach_as(pinned(with("", PASSWORD), &audit), audit.clone()),
        )
        .await;
        assert_eq!(
            (end.close_frame().0, end.reason_code()),
            (4004, "certificate_missing"),
            "{kind}: {end:?}"
        );
    }
}

#[tokio::test]
async fn a_lockout_of_the_server_is_reported() {
    let port = free_port().to_string();
    let desktop = Desktop::with(&[
        "-SecurityTypes",
        "VncAuth",
        "-rfbport",
        &port,
        "-interface",
        "127.0.0.1",
        "-BlacklistThreshold",
        "2",
    ])
    .await;
    let address = format!("127.0.0.1:{port}");
    let mut ends = Vec::new();
    for _ in 0..6 {
        let address = address.clone();
        let dial = super::harness::FnDialer(move || {
            let address = address.clone();
            async move { Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Duplex>) }
                .boxed()
        });
        let lease =
            super::harness::lease_to(OrganizationId::new(), WorkspaceKind::Vnc, with("", "wrong"));
        let timeouts = Timeouts { dial: TIMEOUT, handshake: TIMEOUT, ..Timeouts::default() };
        ends.push(
            refused(Harness::with_lease(
                lease,
                dial,
                tokio::sync::mpsc::unbounded_channel().1,
                timeouts,
                RecordingAudit::default(),
            ))
            .await,
        );
    }
    let (first, last) = (&ends[0], &ends[5]);
    assert_eq!((first.close_frame().0, first.reason_code()), (4006, "rfb_denied"), "{first:?}");
    assert_eq!(last.close_frame().0, 4002, "{last:?}");
    assert!(last.close_frame().1.starts_with("desktop: After too many failed logins"), "{last:?}");
    drop(desktop);
}

#[tokio::test]
async fn other_clients_stay_or_are_disconnected_as_configured() {
    let desktop = Desktop::start().await;
    let (first, mut client) = desktop.open().await;
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
    let (second, mut beside) = desktop.open().await;
    timeout(TIMEOUT, beside.frame()).await.unwrap().unwrap();
    timeout(TIMEOUT, client.frame()).await.expect("both see it").unwrap();

    let alone = Upstream { protocol: ProtocolSettings::Rfb { exclusive: true }, ..server() };
    let (_third, mut only) = desktop.open_as(alone, RecordingAudit::default()).await;
    timeout(TIMEOUT, only.frame()).await.unwrap().unwrap();
    for harness in [first, second] {
        let (end, _) = timeout(TIMEOUT, harness.end()).await.expect("the others are put out");
        assert_eq!(
            (end.close_frame(), end.reason_code()),
            ((4002, "retry".into()), "desktop_gone")
        );
    }
    timeout(TIMEOUT, only.frame()).await.unwrap().unwrap();
}

#[tokio::test]
async fn x11vnc_shares_an_existing_display() {
    let display = Desktop::start().await;
    for vencrypt in [false, true] {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let both = folder.path().join("both.pem");
        // It reads RSA keys only.
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=x11vnc.test",
                "-keyout",
            ])
            .args([&*both, Path::new("-out"), &folder.path().join("certificate.pem")])
            .output();
        assert!(made.await.expect("openssl is installed").status.success());
        let certificate = std::fs::read(folder.path().join("certificate.pem")).unwrap();
        std::fs::write(&both, [std::fs::read(&both).unwrap(), certificate].concat()).unwrap();
        std::fs::write(folder.path().join("word"), "x11vnc-1\n").unwrap();
        let mut command = pdeathsig_command("x11vnc");
        command.args([
            "-display",
            &display.display,
            "-localhost",
            "-rfbport",
            &port.to_string(),
            "-forever",
            "-noipv6",
            "-noshm",
            "-norc",
        ]);
        command.arg("-passwdfile").arg(folder.path().join("word"));
        if vencrypt {
            command.args(["-vencrypt", "nodh:only", "-ssl"]).arg(&both);
        }
        let _server = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("x11vnc is installed");
        eventually("x11vnc listens", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        let dial = super::harness::FnDialer(move || {
            async move {
                Ok(Box::new(TcpStream::connect(("127.0.0.1", port)).await?) as Box<dyn Duplex>)
            }
            .boxed()
        });
        let lease = super::harness::lease_to(
            OrganizationId::new(),
            WorkspaceKind::Vnc,
            with("", "x11vnc-1"),
        );
        let timeouts =
            Timeouts { dial: SERVER_TIMEOUT, handshake: SERVER_TIMEOUT, ..Timeouts::default() };
        let mut harness = Harness::with_lease(
            lease,
            dial,
            tokio::sync::mpsc::unbounded_channel().1,
            timeouts,
            RecordingAudit::default(),
        );
        let stream = super::desktop::browser_stream(&mut harness);
        let mut client = match timeout(2 * SERVER_TIMEOUT, VncClient::connect(stream))
            .await
            .expect("it answers")
        {
            Ok(client) => client,
            Err(error) => panic!("{error}: {:?}", harness.end.await),
        };
        timeout(TIMEOUT, client.frame()).await.expect("a frame").unwrap();
        assert_eq!((client.width, client.height), (640, 480), "VeNCrypt: {vencrypt}");
        assert_eq!(
            harness.audit.events().len(),
            usize::from(vencrypt),
            "{:?}",
            harness.audit.events()
        );
    }
}
