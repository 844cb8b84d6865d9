//! FreeRDP's server: Network Level Authentication by the gateway, and policy on clipboard and input
//! with real programs on both sides.

use super::super::recording_audit::{RecordedEvent, RecordingAudit};
use super::harness::{real, server};
use crate::support::shadow::{COLOUR, PASSWORD, Security, Shadow, USER};
use portcullis::domain::upstream::StreamPolicy;

#[tokio::test]
async fn the_gateway_logs_in_and_the_desktop_is_painted() {
    for security in [Security::Nla, Security::Tls] {
        let shadow = Shadow::start(security).await;
        let (harness, mut client) =
            real(server(Some((USER, PASSWORD))), shadow.port, RecordingAudit::default())
                .with_client(&[])
                .await;
        client.wait_for_colour(COLOUR).await;
        drop(client);
        assert!(["browser_gone", "desktop_gone"].contains(&harness.end().await.0.reason_code()));
    }
}

#[tokio::test]
async fn a_wrong_password_is_reported_by_the_real_server() {
    let shadow = Shadow::start(Security::Nla).await;
    let audit = RecordingAudit::default();
    let (harness, _client) =
        real(server(Some((USER, "wrong"))), shadow.port, audit.clone()).with_client(&[]).await;
    let (end, _) = harness.end().await;
    assert_eq!(
        (end.close_frame().0, &*end.close_frame().1),
        (4006, "user refused"),
        "{end:?}\n{}",
        shadow.output()
    );
    assert!(
        matches!(
            audit.events()[..],
            [RecordedEvent::CertificateChecked(..), RecordedEvent::LoginRefused(_)]
        ),
        "{:?}",
        audit.events()
    );
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let shadow = Shadow::start(Security::Rdp).await;
    let (harness, _client) =
        real(server(Some((USER, PASSWORD))), shadow.port, RecordingAudit::default())
            .with_client(&[])
            .await;
    let (end, _) = harness.end().await;
    let (code, reason) = end.close_frame();
    assert_eq!(code, 4002, "{end:?}");
    assert!(reason.starts_with("desktop: "), "{reason}");
}

#[tokio::test]
async fn a_view_only_user_cannot_type() {
    let shadow = Shadow::start(Security::Nla).await;
    let typed = shadow.directory().join("typed");
    let script = format!("read line; echo \"$line\" > {}", typed.display());
    let _window = shadow.run("xterm", &["-geometry", "60x10+0+0", "-e", "sh", "-c", &script]);
    let mut wanted = server(Some((USER, PASSWORD)));
    wanted.policy = StreamPolicy { read_only: true, ..StreamPolicy::default() };
    let audit = RecordingAudit::default();
    let (_rig, mut client) = real(wanted, shadow.port, audit.clone()).with_client(&[]).await;
    client.wait_for_colour(COLOUR).await;
    for buttons in [0, 1, 0] {
        client.screen.pointer(buttons, 100, 100).await.unwrap();
    }
    client.screen.type_text("forbidden\n").await.unwrap();
    audit
        .wait_until(|audit| {
            audit.refused_totals().iter().any(|(channel, direction, _, count)| {
                (*channel, *direction) == ("input", "in") && *count >= 10
            })
        })
        .await;
    assert!(!typed.exists());
}
