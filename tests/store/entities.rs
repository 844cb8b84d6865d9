//! Workspaces, hosts, keys and settings.

use super::*;
use portcullis::domain::ErrorKind;

on_both! {
    async fn workspaces(db) {
        let (org, elsewhere) = (organization(&db).await, organization(&db).await);
        db.store.write(move |tx| {
            let one = make_workspace(org, "ws-one");
            tx.insert_workspace(&one)?;
            let conflict = tx.insert_workspace(&one).unwrap_err();
            assert_eq!(conflict.kind, ErrorKind::Conflict);
            assert_eq!(tx.workspace(&one.key())?, Some(one.clone()));
            let other = Workspace { name: "A".into(), ..make_workspace(org, "ws-two") };
            tx.insert_workspace(&other)?;
            assert_eq!(tx.workspaces(org)?, [other.clone(), one.clone()]);
            assert!(tx.workspaces(OrganizationId::new())?.is_empty());
            // Another organization's id is no obstacle, and leads to its own workspace only.
            let theirs = Workspace { name: "Theirs".into(), ..make_workspace(elsewhere, "ws-one") };
            tx.insert_workspace(&theirs)?;
            assert_eq!((tx.workspace(&one.key())?, tx.workspace(&theirs.key())?), (Some(one.clone()), Some(theirs.clone())));

            let changed = Workspace {
                spec: WorkspaceSpec::from_fields(WorkspaceKind::Rdp, Default::default()).unwrap(), tags: vec![], allowed_roles: vec![], single_seat: true, maintenance: true, updated_at: later(1), ..one.clone()
            };
            assert!(tx.update_workspace(&changed)?);
            assert_eq!(tx.workspace(&one.key())?, Some(changed));

            assert!(tx.delete_workspace(&one.key(), NOW)? && !tx.delete_workspace(&one.key(), NOW)?);
            assert_eq!(tx.workspace(&one.key())?, None);
            assert!(!tx.update_workspace(&one)?);
            // Its id can be reused, repeatedly.
            for _ in 0..2 {
                tx.insert_workspace(&one)?;
                assert_eq!(tx.workspace(&one.key())?, Some(one.clone()));
                assert!(tx.delete_workspace(&one.key(), NOW)?);
            }
            assert_eq!(tx.workspaces(org)?, [other]);
            assert_eq!(tx.workspace(&theirs.key())?, Some(theirs));
            Ok(())
        }).await.unwrap();
    }

    async fn hosts(db) {
        let org = organization(&db).await;
        db.store.write(move |tx| {
            let network = ("10.63.0.0".parse().unwrap(), 29);
            assert_eq!(tx.next_host_address(network)?.to_string(), "10.63.0.2");
            let one = make_host(org, "10.63.0.2");
            tx.insert_host(&one, "sealed")?;
            assert_eq!(tx.next_host_address(network)?.to_string(), "10.63.0.3");
            let same_key = portcullis::domain::host::Host { id: HostId::new(), address: "10.63.0.3".parse().unwrap(), ..one.clone() };
            assert_eq!(tx.insert_host(&same_key, "sealed").unwrap_err().kind, ErrorKind::Conflict);
            assert_eq!(tx.insert_host(&make_host(org, "10.63.0.2"), "sealed").unwrap_err().kind, ErrorKind::Conflict);
            for n in 3..7 { tx.insert_host(&make_host(org, &format!("10.63.0.{n}")), "sealed")?; }
            assert_eq!(tx.next_host_address(network).unwrap_err().kind, ErrorKind::Conflict);

            assert_eq!(tx.host(one.id)?, Some(one.clone()));
            assert_eq!((tx.hosts(None)?.len(), tx.hosts(Some(org))?.len(), tx.hosts(Some(OrganizationId::new()))?.len()), (5, 5, 0));
            assert!(tx.hosts(Some(org))?.contains(&(one.clone(), "sealed".to_owned())));

            let endpoint = "[2001:db8::1]:51820".parse().unwrap();
            assert!(tx.update_host_seen(one.id, Some(endpoint), Some("0.2.0"), later(1))?);
            assert!(tx.update_host_seen(one.id, None, None, later(2))?);
            let seen = tx.host(one.id)?.unwrap();
            assert_eq!((seen.endpoint, &*seen.version, seen.last_seen_at), (Some(endpoint), "0.2.0", Some(later(2))));
            assert!(tx.delete_host(one.id)? && !tx.delete_host(one.id)?);
            assert!(!tx.update_host_seen(one.id, None, None, NOW)?);
            assert_eq!(tx.next_host_address(network)?.to_string(), "10.63.0.2");
            Ok(())
        }).await.unwrap();
    }

    async fn keys_and_settings(db) {
        db.store.write(|tx| {
            assert!(tx.signing_keys()?.is_empty());
            tx.insert_signing_key("b", "sealed b", NOW)?;
            tx.insert_signing_key("a", "sealed a", later(1))?;
            assert_eq!(tx.signing_keys()?, [("b".into(), "sealed b".into(), NOW), ("a".into(), "sealed a".into(), later(1))]);
            assert_eq!(tx.setting("x")?, None);
            tx.put_setting("x", "1")?;
            tx.put_setting("x", "2")?;
            assert_eq!(tx.setting("x")?.as_deref(), Some("2"));
            Ok(())
        }).await.unwrap();
        db.store.ping().await.unwrap();
    }

    /// A commit of one store is visible to another, as the command line and the gateway need.
    async fn another_process_sees_commits(db) {
        let other = db.reopen();
        for n in 1..=3 {
            db.store.write(|tx| tx.append_audit_entry(make_draft(Action::Login))).await.unwrap();
            assert_eq!(other.read(|tx| tx.change_counter()).await.unwrap(), n);
        }
    }
}
