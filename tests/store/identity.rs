//! Users, factors, challenges, logins and tokens.

use super::*;
use portcullis::domain::principal::{ApiKey, Principal, SignedInUser};
use portcullis::domain::user::{Mfa, MfaMethod};
use portcullis::domain::{ApiKeyId, ErrorKind};
use portcullis::store::{Challenge, ChallengePurpose};

on_both! {
    async fn users(db) {
        assert_eq!(db.store.read(|tx| tx.first_organization()).await.unwrap(), None);
        let org = organization(&db).await;
        assert_eq!(db.store.read(|tx| tx.first_organization()).await.unwrap(), Some((org, "Acme".to_owned())));
        let ann = user(&db, org, "Ann@Example.com").await;
        let bob = user(&db, org, "bob@example.com").await;
        let id = ann.id;
        assert_eq!(db.store.read(move |tx| tx.user(id)).await.unwrap(), Some(ann.clone()));
        assert_eq!(db.store.read(|tx| tx.user(UserId::new())).await.unwrap(), None);
        let by_email = db.store.read(|tx| tx.user_by_email(" ann@example.COM")).await.unwrap();
        assert_eq!(by_email, Some((ann.clone(), "hash".to_owned())));
        for nobody in ["", "ann", "ann@example.com\0", "%"] {
            assert_eq!(db.store.read(move |tx| tx.user_by_email(nobody)).await.unwrap(), None, "{nobody}");
        }
        assert_eq!(db.store.read(move |tx| tx.users(org)).await.unwrap(), [ann.clone(), bob]);
        assert!(db.store.read(|tx| tx.users(OrganizationId::new())).await.unwrap().is_empty());

        let changed = User { name: "Ann".into(), role: Role::Security, disabled: true, last_login_at: Some(later(5)), ..ann };
        let kept = changed.clone();
        db.store.write(move |tx| {
            assert!(tx.update_user(&kept)?);
            assert!(tx.set_password(kept.id, "other")?);
            assert!(!tx.set_password(UserId::new(), "other")?);
            tx.set_last_login(kept.id, later(5))
        }).await.unwrap();
        let found = db.store.read(|tx| tx.user_by_email("ann@example.com")).await.unwrap();
        assert_eq!(found, Some((changed, "other".to_owned())));
    }

    async fn an_address_is_unique_in_any_case(db) {
        let org = organization(&db).await;
        user(&db, org, "Ünal@example.com").await;
        let again = make_user(org, "üNAL@EXAMPLE.com");
        let id = again.id;
        // The conflict leaves the transaction usable, on both databases: later writes are
        // committed.
        let outcome = db.store.write(move |tx| {
            let conflict = tx.insert_user(&again, "hash").unwrap_err();
            tx.append_audit_entry(make_draft(Action::CreateUser))?;
            Ok(conflict)
        }).await.unwrap();
        assert_eq!(outcome.kind, ErrorKind::Conflict);
        assert_eq!(outcome.message, "There is already a user with this e-mail address.");
        assert_eq!(db.store.read(move |tx| tx.user(id)).await.unwrap(), None);
        assert_eq!(db.store.read(|tx| tx.change_counter()).await.unwrap(), 1);
    }

    async fn a_factor_counts_once_confirmed(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "ann@example.com").await.id;
        let enrolled = async || db.store.read(move |tx| Ok(tx.user(ann)?.unwrap().mfa_enrolled)).await.unwrap();
        assert_eq!(db.store.read(move |tx| tx.totp(ann)).await.unwrap(), None);
        db.store.write(move |tx| { tx.put_totp(ann, "one", NOW)?; tx.put_totp(ann, "two", NOW) }).await.unwrap();
        assert!(!enrolled().await);
        db.store.write(move |tx| {
            assert_eq!(tx.totp(ann)?.unwrap().sealed, "two");
            assert!(!tx.advance_totp_step(ann, 9, i64::MAX)?, "not confirmed yet");
            assert!(tx.confirm_totp(ann, 10, NOW)?);
            assert!(!tx.confirm_totp(ann, 11, NOW)?, "only once");
            assert!(!tx.advance_totp_step(ann, 10, i64::MAX)?, "the confirming code is used");
            assert!(tx.advance_totp_step(ann, 11, i64::MAX)?);
            assert!(!tx.advance_totp_step(ann, 11, i64::MAX)?);
            assert!(!tx.advance_totp_step(ann, 10, 11)?, "the last one is possible");
            assert!(tx.advance_totp_step(ann, 9, 10)?, "the last one is of a clock that was ahead");
            assert!(!tx.advance_totp_step(ann, 9, 10)?);
            let row = tx.totp(ann)?.unwrap();
            assert_eq!((row.confirmed_at, row.last_step), (Some(NOW.0), 9));
            assert_eq!(tx.put_totp(ann, "three", NOW).unwrap_err().kind, ErrorKind::Conflict);
            Ok(())
        }).await.unwrap();
        assert!(enrolled().await);
        db.store.write(move |tx| { assert!(tx.delete_totp(ann)?); assert!(!tx.delete_totp(ann)?); Ok(()) }).await.unwrap();
        assert!(!enrolled().await);
    }

    async fn challenges(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "ann@example.com").await.id;
        let challenge = Challenge {
            id: uuid::Uuid::new_v4(), token_hash: "hash".into(), user_id: ann, purpose: ChallengePurpose::Enroll, tries: 0, expires_at: later(60), created_at: NOW,
        };
        db.store.write(move |tx| {
            tx.insert_challenge(&challenge)?;
            assert_eq!(tx.challenge("hash")?, Some(challenge.clone()));
            assert_eq!(tx.challenge("other")?, None);
            assert!(tx.consume_attempt(challenge.id, 2)? && tx.consume_attempt(challenge.id, 2)? && !tx.consume_attempt(challenge.id, 2)?);
            assert_eq!(tx.challenge("hash")?.unwrap().tries, 2);
            assert!(tx.delete_challenge(challenge.id)? && !tx.delete_challenge(challenge.id)?);
            assert!(!tx.consume_attempt(challenge.id, 9)?);
            Ok(())
        }).await.unwrap();
    }

    async fn logins(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "ann@example.com").await;
        let (one, two, old) = (login(&db, &ann).await, login(&db, &ann).await, login(&db, &ann).await);
        let mfa = Mfa { method: MfaMethod::Totp, verified_at: later(1) };
        db.store.write(move |tx| {
            assert_eq!(tx.login(one.id)?, Some(one.clone()));
            assert_eq!(tx.login(LoginId::new())?, None);
            assert!(tx.set_login_mfa(one.id, mfa)?);
            assert!(tx.extend_login(one.id, later(7200))?);
            let read = tx.login(one.id)?.unwrap();
            assert_eq!((read.mfa, read.expires_at), (Some(mfa), later(7200)));
            assert!(read.is_active(later(7199)) && !read.is_active(later(7200)));
            assert!(tx.revoke_login(two.id, NOW)? && !tx.revoke_login(two.id, NOW)?);
            assert!(!tx.extend_login(two.id, later(7200))?, "what is revoked stays so");
            assert!(!tx.login(two.id)?.unwrap().is_active(NOW));
            tx.extend_login(old.id, NOW)?;
            assert_eq!(tx.revoke_logins_of(one.user_id, later(1))?, [one.id]);
            assert!(tx.revoke_logins_of(one.user_id, later(1))?.is_empty());
            Ok(())
        }).await.unwrap();
    }

    async fn a_principal_is_valid_while_its_login_and_account_are(db) {
        let org = organization(&db).await;
        let (ann, bob) = (user(&db, org, "ann@example.com").await, user(&db, org, "bob@example.com").await);
        let (eve, nobody) = (user(&db, org, "eve@example.com").await, make_user(org, "nobody@example.com"));
        let (own, ended, bobs, eves) =
            (login(&db, &ann).await, login(&db, &ann).await, login(&db, &bob).await, login(&db, &eve).await);
        let of = |user: &User, login: LoginId| Principal::User(SignedInUser { user: user.clone(), login_id: login, mfa: None });
        let key = ApiKey { id: ApiKeyId::new(), organization_id: org, name: "key".to_owned(), role: Role::Admin };
        let just_before = Timestamp(own.expires_at.0 - 1);
        let disabled = User { disabled: true, ..eve.clone() };
        db.store.write(move |tx| {
            tx.revoke_login(ended.id, NOW)?;
            tx.update_user(&disabled).map(|_| ())
        }).await.unwrap();
        let cases = vec![
            ("active login", true, of(&ann, own.id), NOW),
            ("until its expiry", true, of(&ann, own.id), just_before),
            ("expired", false, of(&ann, own.id), own.expires_at),
            ("revoked", false, of(&ann, ended.id), NOW),
            ("unknown login", false, of(&ann, LoginId::new()), NOW),
            ("another user's login", false, of(&ann, bobs.id), NOW),
            ("unknown user", false, of(&nobody, own.id), NOW),
            ("disabled since the caller was read", false, of(&eve, eves.id), NOW),
            ("enabled since the caller was read", true, of(&User { disabled: true, ..ann.clone() }, own.id), NOW),
            ("API key", false, Principal::ApiKey(key), NOW),
            ("system of an organization", false, Principal::System { organization_id: Some(org) }, NOW),
            ("system", false, Principal::System { organization_id: None }, NOW),
        ];
        db.store.read(move |tx| {
            for (case, expected, principal, now) in &cases {
                assert_eq!(tx.principal_is_valid(principal, *now)?, *expected, "{case}");
            }
            Ok(())
        }).await.unwrap();
    }

    async fn tokens_work_once_and_in_time(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "ann@example.com").await;
        let login = login(&db, &ann).await.id;
        db.store.write(move |tx| {
            for hash in ["a", "b"] { tx.insert_refresh_token(hash, login, later(60), NOW)?; }
            assert!(tx.consume_refresh_token("a", NOW)? && !tx.consume_refresh_token("a", NOW)?);
            assert!(!tx.consume_refresh_token("b", later(60))?, "expired");
            assert!(!tx.consume_refresh_token("c", NOW)?);
            let row = tx.refresh_token("a")?.unwrap();
            assert_eq!((row.login_id, row.used_at, row.expires_at), (login, Some(NOW), later(60)));
            assert_eq!(tx.refresh_token("b")?.unwrap().used_at, None);
            assert_eq!(tx.refresh_token("c")?, None);

            tx.insert_join_token("j", org, None, later(60), NOW)?;
            assert_eq!(tx.consume_join_token("j", later(60))?, None, "expired");
            assert_eq!(tx.consume_join_token("j", NOW)?, Some((org, None)));
            assert_eq!(tx.consume_join_token("j", NOW)?, None);
            Ok(())
        }).await.unwrap();
    }

    async fn expired_rows_are_purged(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "ann@example.com").await;
        let (old, new) = (login(&db, &ann).await.id, login(&db, &ann).await.id);
        let id = ann.id;
        db.store.write(move |tx| {
            tx.extend_login(new, later(1_000_000))?;
            tx.insert_refresh_token("old", old, later(60), NOW)?;
            tx.insert_refresh_token("new", new, later(1_000_000), NOW)?;
            tx.insert_join_token("old", org, None, later(60), NOW)?;
            tx.insert_challenge(&Challenge {
                id: uuid::Uuid::new_v4(), token_hash: "h".into(), user_id: id, purpose: ChallengePurpose::Verify, tries: 0, expires_at: later(60), created_at: NOW,
            })?;
            assert_eq!(tx.purge(later(60))?, 0);
            assert_eq!(tx.purge(later(61))?, 1, "the challenge");
            assert_eq!(tx.purge(later(90_100))?, 3, "an ended login, its refresh token and the join token are kept for a day");
            assert!(tx.refresh_token("old")?.is_none() && tx.refresh_token("new")?.is_some());
            assert!(tx.login(old)?.is_none() && tx.login(new)?.is_some());
            Ok(())
        }).await.unwrap();
    }
}
