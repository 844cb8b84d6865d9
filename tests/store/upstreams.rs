//! What is stored about upstreams: configuration, certificates, users' credentials. Deleted with
//! the workspace, and not inherited by the next one with its id.

use super::{NOW, later, make_workspace, organization, user};
use portcullis::domain::route::TargetSpec;
use portcullis::domain::upstream::{
    Clipboard, CredentialSource, Fingerprint, StreamPolicy, TrustRule,
};
use portcullis::domain::web_app::{
    IdentityForwarding, RequestPolicy, Scheme, UpstreamSignIn, WebAppConfig,
};
use portcullis::domain::workspace::{
    OfferedCertificate, UpstreamFields, UpstreamState, WorkspaceFields, WorkspaceKind,
    WorkspaceSpec,
};
use portcullis::domain::{ErrorKind, HostId, OrganizationId};
use std::collections::HashMap;

/// A configuration in which every field differs from the default.
fn web(n: usize) -> WebAppConfig {
    let words =
        |of: &[&str]| -> Vec<String> { of.iter().take(n).map(|word| (*word).to_owned()).collect() };
    WebAppConfig {
        scheme: Scheme::ALL[n % 2],
        host: words(&["erp.example:8443"]).join(""),
        start: "/lab?a=\"b".into(),
        identity: IdentityForwarding {
            headers: n % 2 == 1,
            assertion_audience: (n > 1).then(|| "erp".into()),
        },
        sign_in: [
            UpstreamSignIn::None,
            UpstreamSignIn::Basic,
            UpstreamSignIn::Header("x-key".into()),
        ][n % 3]
            .clone(),
        requests: RequestPolicy {
            methods: words(&["GET", "POST"]),
            paths: words(&["/wiki", "/api", "/x"]),
            upload: n.is_multiple_of(2),
            download: n % 2 == 1,
            max_request: u64::MAX - n as u64,
        },
    }
}

on_both! {
    async fn terms_and_policy_are_read_back(db) {
        let org = organization(&db).await;
        db.store.write(move |tx| {
            let mut one = make_workspace(org, "ws-a");
            tx.insert_workspace(&one)?;
            let rules = [
                TrustRule::FirstUse,
                TrustRule::Pinned(Fingerprint([7; 32])),
                TrustRule::Authority { roots: "PEM".into(), name: None },
                TrustRule::Authority { roots: "PEM".into(), name: Some("desk.example".into()) },
            ];
            for (n, trust) in rules.into_iter().enumerate() {
                let upstream = UpstreamFields {
                    credential_source: CredentialSource::ALL[n % 3],
                    username: format!("us\"er{n}"),
                    trust,
                    ..UpstreamFields::default()
                };
                let desktop = WorkspaceFields {
                    target: Some(TargetSpec::Service { host_id: HostId::new(), name: format!("xrdp-{n}") }),
                    policy: StreamPolicy { clipboard: Clipboard::ALL[n], files: n % 2 == 0, read_only: n % 2 == 1 },
                    upstream: upstream.clone(),
                    ..WorkspaceFields::default()
                };
                let rdp = UpstreamFields { domain: "D".into(), keyboard_layout: (n > 1).then_some(u32::MAX), ..upstream.clone() };
                let vnc = UpstreamFields { exclusive: n % 2 == 0, ..upstream.clone() };
                let started = UpstreamFields { keyboard_layout: Some(0x407), ..UpstreamFields::default() };
                for (kind, fields) in [
                    (WorkspaceKind::Linux, WorkspaceFields { network: n % 2 == 0, policy: desktop.policy, ..WorkspaceFields::default() }),
                    (WorkspaceKind::Rdp, WorkspaceFields { network: n % 2 == 1, policy: desktop.policy, upstream: started, ..WorkspaceFields::default() }),
                    (WorkspaceKind::Rdp, WorkspaceFields { upstream: rdp, ..desktop.clone() }),
                    (WorkspaceKind::Vnc, WorkspaceFields { upstream: vnc, ..desktop.clone() }),
                    (WorkspaceKind::Html5, WorkspaceFields { target: desktop.target.clone(), upstream, web_app: web(n), ..WorkspaceFields::default() }),
                ] {
                    one.spec = WorkspaceSpec::from_fields(kind, fields.clone()).unwrap();
                    assert!(tx.update_workspace(&one)?);
                    assert_eq!(tx.workspace(&one.key())?, Some(one.clone()));
                    assert_eq!(one.driver().fields(), fields, "nothing of it is lost");
                    let policies = tx.stream_policies(org, [&one.id, &one.id])?;
                    assert_eq!(policies, HashMap::from([("ws-a".to_owned(), one.driver().policy())]), "none but those asked for");
                    assert!(tx.stream_policies(OrganizationId::new(), [&one.id])?.is_empty());
                    assert!(tx.stream_policies(org, [])?.is_empty());
                }
            }
            Ok(())
        }).await.unwrap();
    }

    async fn what_nobody_wrote_does_not_read(db) {
        let org = organization(&db).await;
        db.store.write(move |tx| tx.insert_workspace(&make_workspace(org, "ws-a"))).await.unwrap();
        for (damaged, good) in [
            ("server = '{\"trust\":\"anything\"}'", "server = '{}'"),
            ("server = '{\"trust\":\"pinned\"}'", "server = '{}'"),
            ("server = '{\"source\":\"nobody\"}'", "server = '{}'"),
            ("server = 'x'", "server = '{}'"),
            ("web = 'x'", "web = '{}'"),
            ("web = '{\"scheme\":\"ftp\"}'", "web = '{}'"),
            ("web = '{\"sign_in\":\"header\"}'", "web = '{}'"),
            ("web = '{\"else\":1}'", "web = '{}'"),
            ("clipboard = 'all'", "clipboard = 'both'"),
            ("target_service = 'x'", "target_service = NULL"),
            ("kind = 'vnc'", "kind = 'linux'"),
            ("kind = 'ssh'", "kind = 'linux'"),
            ("target_direct = 'x'", "target_direct = NULL"),
            ("server = '{\"exclusive\":true}'", "server = '{}'"),
        ] {
            db.raw(&format!("UPDATE workspaces SET {damaged}"));
            assert_eq!(db.store.read(move |tx| tx.workspaces(org)).await.unwrap_err().kind, ErrorKind::Internal, "{damaged}");
            db.raw(&format!("UPDATE workspaces SET {good}"));
        }
        assert_eq!(db.store.read(move |tx| tx.workspaces(org)).await.unwrap(), [make_workspace(org, "ws-a")]);
    }

    async fn certificates_are_pinned_once(db) {
        let org = organization(&db).await;
        db.store.write(move |tx| {
            let id = make_workspace(org, "ws-a").key();
            let (a, b) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
            assert!(!tx.pin_certificate_if_none(&id, a, "CN=a", NOW)?, "no such workspace");
            tx.insert_workspace(&make_workspace(org, "ws-a"))?;
            tx.insert_workspace(&make_workspace(org, "ws-b"))?;
            assert_eq!(tx.upstream_state(&id)?, UpstreamState::default());
            assert!(tx.pin_certificate_if_none(&id, a, "CN=a", NOW)?);
            assert!(!tx.pin_certificate_if_none(&id, b, "CN=b", NOW)?, "the first one stays");
            for n in 1..=2 {
                tx.set_offered_certificate(&id, &OfferedCertificate { fingerprint: b, at: later(n), subject: format!("CN=b{n}") })?;
            }
            tx.set_workspace_password(&id, Some("sealed"))?;
            let offered = Some(OfferedCertificate { fingerprint: b, at: later(2), subject: "CN=b2".into() });
            let state = UpstreamState { has_password: true, pinned: Some((a, NOW)), offered };
            assert_eq!(tx.upstream_state(&id)?, state);
            let all = tx.upstream_states(org)?;
            assert_eq!((all.len(), all.get("ws-a")), (1, Some(&state)));
            assert!(tx.replace_pinned_certificate(&id, b, "CN=b", later(3))?);
            assert_eq!(tx.upstream_state(&id)?, UpstreamState { has_password: true, pinned: Some((b, later(3))), offered: None });
            tx.delete_certificates(&id)?;
            assert_eq!(tx.upstream_state(&id)?, UpstreamState { has_password: true, ..UpstreamState::default() });
            Ok(())
        }).await.unwrap();
    }

    async fn a_users_credential_is_for_one_workspace_and_goes_with_it(db) {
        let org = organization(&db).await;
        let (ann, bob) = (user(&db, org, "ann@example.com").await, user(&db, org, "bob@example.com").await);
        db.store.write(move |tx| {
            let (one, other) = (make_workspace(org, "ws-a"), make_workspace(org, "ws-b"));
            assert!(!tx.upsert_user_credential(&one.key(), ann.id, "s", NOW)?, "no such workspace");
            tx.insert_workspace(&one)?;
            tx.insert_workspace(&other)?;
            assert!(tx.upsert_user_credential(&one.key(), ann.id, "first", NOW)? && tx.upsert_user_credential(&one.key(), ann.id, "second", later(1))?);
            assert!(tx.upsert_user_credential(&one.key(), bob.id, "his", NOW)? && tx.upsert_user_credential(&other.key(), ann.id, "there", NOW)?);
            assert_eq!(tx.user_credential(&one.key(), ann.id)?.as_deref(), Some("second"));
            assert_eq!(tx.user_credential(&one.key(), bob.id)?.as_deref(), Some("his"));
            assert_eq!(tx.user_credential(&other.key(), bob.id)?, None);
            assert_eq!(tx.user_credentials_of(ann.id)?.len(), 2);
            assert!(tx.delete_user_credential(&one.key(), bob.id)? && !tx.delete_user_credential(&one.key(), bob.id)?);
            tx.set_workspace_password(&one.key(), Some("sealed"))?;
            tx.pin_certificate_if_none(&one.key(), Fingerprint([1; 32]), "CN=a", NOW)?;
            // The next workspace with the id inherits nothing.
            assert!(tx.delete_workspace(&one.key(), later(2))?);
            tx.insert_workspace(&one)?;
            assert_eq!((tx.user_credential(&one.key(), ann.id)?, tx.workspace_password(&one.key())?), (None, None));
            assert_eq!(tx.upstream_state(&one.key())?, UpstreamState::default());
            assert_eq!(tx.user_credentials_of(ann.id)?.into_iter().collect::<Vec<_>>(), ["ws-b"]);
            assert_eq!(tx.delete_user_credentials(&other.key())?, 1);
            Ok(())
        }).await.unwrap();
    }
}
