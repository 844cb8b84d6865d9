//! xrdp: TLS, and a credential that the gateway writes into the client's own PDU.

use super::super::recording_audit::{RecordedEvent, RecordingAudit};
use super::harness::{TIMEOUT, real, server};
use crate::support::xfreerdp::Xfreerdp;
use crate::support::xrdp::{COLOUR, PASSWORD, USER, Xrdp};
use std::time::Duration;
use tokio::time::timeout;

/// Types a line into the session's terminal until it arrives: keys before the window manager runs
/// are lost.
async fn type_line(xrdp: &Xrdp, client: &mut Xfreerdp, line: &str) {
    let typed = async {
        while !std::fs::read_to_string(xrdp.home.join("typed"))
            .is_ok_and(|text| text.contains(line))
        {
            // Position of the terminal; the click focuses it.
            for buttons in [0, 1, 0] {
                client.screen.pointer(buttons, 200, 150).await.unwrap();
            }
            client.screen.type_text(&format!("{line}\n")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(TIMEOUT, typed).await.unwrap_or_else(|_| panic!("nothing arrives\n{}", xrdp.output()));
}

#[tokio::test]
async fn a_session_is_logged_in_typed_into_and_resumed() {
    let xrdp = Xrdp::start().await;
    let audit = RecordingAudit::default();
    let mut wanted = server(Some((USER, PASSWORD)));
    let (harness, mut client) =
        real(wanted.clone(), xrdp.port, audit.clone()).with_client(&[]).await;
    let started = xrdp.home_file("started", |text| text.ends_with('\n')).await;
    assert!(
        started.starts_with("rdpuser :"),
        "{started}: the credential is the gateway's, the client has a placeholder"
    );
    client.wait_for_colour(COLOUR).await;
    type_line(&xrdp, &mut client, "first 42").await;

    drop(client);
    let (end, _) = harness.end().await;
    assert!(["browser_gone", "desktop_gone"].contains(&end.reason_code()), "{end:?}");

    wanted.trust.pin = audit.pin();
    let (_rig, mut client) = real(wanted, xrdp.port, audit.clone()).with_client(&[]).await;
    client.wait_for_colour(COLOUR).await;
    type_line(&xrdp, &mut client, "second").await;
    let again = xrdp.home_file("started", |_| true).await;
    assert_eq!(again, started, "the same X session, with the same terminal");
    let result = audit
        .events()
        .into_iter()
        .filter(|line| matches!(line, RecordedEvent::CertificateChecked(..)))
        .count();
    assert_eq!(result, 1, "the certificate was met once: {:?}", audit.events());
}
