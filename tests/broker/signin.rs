//! Sign-in: who gets in, who does not, and what each learns.

use super::fixture::*;
use portcullis::auth::totp;
use portcullis::broker::Settings;
use portcullis::broker::live::StreamAuthorization;
use portcullis::broker::views::*;
use portcullis::domain::secret::SecretString;
use portcullis::domain::user::{Caller, Role};
use portcullis::domain::{ErrorKind, Result, SessionId};
use std::time::Duration;

fn with_mfa() -> Settings {
    Settings { mfa_required: true, ..settings() }
}

/// The challenge of a first factor, and whether enrolment is due.
async fn challenge(world: &BrokerFixture, name: &str) -> (SecretString, bool) {
    match world
        .broker
        .login(&origin(), &format!("{name}@example.com"), &secret(PASSWORD))
        .await
        .unwrap()
    {
        SignIn::MfaRequired { token, enrollment_required, .. } => (token, enrollment_required),
        SignIn::Done(_) => panic!("no second factor was asked for"),
    }
}

async fn enrolled(world: &BrokerFixture, name: &str, role: Role) -> portcullis::domain::user::User {
    let user = world.user(name, role).await;
    world.broker.set_totp(&origin(), &world.system, user.id, &secret(SECRET)).await.unwrap();
    user
}

async fn verify(world: &BrokerFixture, token: &SecretString, code: &str) -> Result<Tokens> {
    world.broker.mfa_verify(&origin(), token, "totp", code).await
}

fn said<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    error.message
}

on_both! {
    async fn every_failure_reads_the_same(db) {
        let world = BrokerFixture::new(&db).await;
        world.user("ann", Role::Member).await;
        let bob = world.user("bob", Role::Member).await;
        let off = UserChange { disabled: Some(true), ..UserChange::default() };
        world.broker.update_user(&origin(), &world.system, bob.id, off).await.unwrap();
        let long = "x".repeat(5000);
        for (email, password, reason) in [
            ("nobody@example.com", PASSWORD, "unknown_account"),
            ("bob@example.com", PASSWORD, "disabled"),
            ("bob@example.com", "wrong", "wrong_password"),
            ("ann@example.com", "wrong", "wrong_password"),
            ("ann@example.com", "", "wrong_password"),
            ("ann@example.com", &long, "wrong_password"),
            ("", "", "unknown_account"),
            ("' or 1=1 --", "x", "unknown_account"),
            ("a\0b@example.com", "x", "unknown_account"),
        ] {
            let (answer, log) = world.audited_during(world.broker.login(&origin(), email, &secret(password))).await;
            assert_eq!(said(answer), "Invalid credentials", "{email}");
            assert_eq!(log, [format!("login_failed denied {reason}")], "{email}");
        }
        let (answer, log) = world.audited_during(world.broker.login(&origin(), " ANN@example.com ", &secret(PASSWORD))).await;
        assert!(matches!(answer.unwrap(), SignIn::Done(_)));
        assert_eq!(log, ["login success -"]);
        assert!(!serde_json::to_string(&world.audit_log().await).unwrap().contains(PASSWORD));
        world.assert_chain_valid().await;
    }

    async fn unknown_costs_what_wrong_costs(db) {
        let world = BrokerFixture::new(&db).await;
        world.user("ann", Role::Member).await;
        let off = world.user("off", Role::Member).await;
        let disabled = UserChange { disabled: Some(true), ..UserChange::default() };
        world.broker.update_user(&origin(), &world.system, off.id, disabled).await.unwrap();
        let long = "x".repeat(5000);
        // Argon2id is what a sign-in costs: every refusal is one computation of it, whoever is
        // refused and why.
        for email in ["ann@example.com", "nobody@example.com", "off@example.com", "", "a\0b@example.com"] {
            for password in ["wrong", "", &long] {
                let before = world.broker.hash_count();
                said(world.broker.login(&origin(), email, &secret(password)).await);
                assert_eq!(world.broker.hash_count() - before, 1, "{email:?}, {} bytes", password.len());
            }
        }
        // Throttled ones cost nothing, alike.
        for email in ["ann@example.com", "nobody@example.com"] {
            while world.broker.login(&origin(), email, &secret("wrong")).await.is_err_and(|e| e.kind == ErrorKind::Unauthenticated) {}
            let before = world.broker.hash_count();
            assert!(matches!(error_kind(world.broker.login(&origin(), email, &secret("wrong")).await), ErrorKind::Throttled(_)));
            assert_eq!(world.broker.hash_count(), before, "{email}");
        }
    }

    async fn guessing_is_throttled_without_telling_whether_there_is_an_account(db) {
        let world = BrokerFixture::new(&db).await;
        world.user("ann", Role::Member).await;
        for email in ["ann@example.com", "nobody@example.com"] {
            for _ in 0..10 {
                said(world.broker.login(&origin(), email, &secret("wrong")).await);
            }
            let (answer, log) = world.audited_during(world.broker.login(&origin(), email, &secret(PASSWORD))).await;
            assert!(matches!(error_kind(answer), ErrorKind::Throttled(wait) if wait > Duration::ZERO), "{email}");
            assert_eq!(log, ["login_throttled denied too_many_tries"]);
        }
        // A flood beyond it is answered, but fills no log.
        let (_, log) = world.audited_during(async {
            for _ in 0..200 {
                let _ = world.broker.login(&origin(), "ann@example.com", &secret("wrong")).await;
            }
        }).await;
        assert!(log.len() <= 60, "{}", log.len());
        world.clock.advance(Duration::from_secs(31));
        assert!(world.broker.login(&origin(), "ann@example.com", &secret(PASSWORD)).await.is_ok());
        let _ = world.broker.authenticate(&origin(), "garbage").await;
        let last = world.audit_log().await.pop().unwrap();
        assert!(last.details["left_out_before"].as_u64() > Some(100), "{last:?}");
    }

    async fn a_storm_of_sign_ins_is_turned_away(db) {
        let world = BrokerFixture::new(&db).await;
        let from = portcullis::domain::user::RequestSource { source_ip: None, ..origin() };
        let tries = (0..120).map(|i| {
            let (broker, from) = (world.broker.clone(), from.clone());
            tokio::spawn(async move { broker.login(&from, &format!("u{i}@example.com"), &secret("wrong")).await })
        });
        let mut turned_away = 0;
        for answer in futures_util::future::join_all(tries.collect::<Vec<_>>()).await {
            match error_kind(answer.unwrap()) {
                ErrorKind::Throttled(wait) => { assert!(wait > Duration::ZERO); turned_away += 1 }
                other => assert_eq!(other, ErrorKind::Unauthenticated),
            }
        }
        assert!(turned_away > 0);
        world.user("ann", Role::Member).await;
        world.sign_in("ann").await;
    }

    async fn a_code_completes_the_sign_in_once(db) {
        let world = BrokerFixture::with(&db, with_mfa()).await;
        let ann = enrolled(&world, "ann", Role::Member).await;
        let (token, enrol) = challenge(&world, "ann").await;
        assert!(!enrol);
        assert_eq!(said(verify(&world, &token, "000000").await), "Invalid code");
        let (tokens, log) = world.audited_during(verify(&world, &token, &world.totp_code(0))).await;
        let tokens = tokens.unwrap();
        assert_eq!(log, ["mfa_verify success -"]);
        assert_eq!(tokens.caller.user.id, ann.id);
        assert_eq!(tokens.caller.mfa.unwrap().verified_at, world.broker.now());
        assert_eq!(said(verify(&world, &token, &world.totp_code(1)).await), "Invalid or expired token", "the challenge is used up");
        let (token, _) = challenge(&world, "ann").await;
        let (answer, log) = world.audited_during(verify(&world, &token, &world.totp_code(0))).await;
        assert_eq!(said(answer), "Invalid code");
        assert_eq!(log, ["mfa_failed denied reused_code"]);
        world.clock.advance(Duration::from_secs(30));
        let caller = verify(&world, &token, &world.totp_code(0)).await.unwrap();
        let seen = world.broker.authenticate(&origin(), caller.access_token.expose()).await.unwrap();
        assert!(seen.mfa.is_some());
    }

    async fn of_two_verifications_with_one_code_one_succeeds(db) {
        let world = BrokerFixture::with(&db, with_mfa()).await;
        enrolled(&world, "ann", Role::Member).await;
        for round in 0..12 {
            let ((one, _), (two, _)) = (challenge(&world, "ann").await, challenge(&world, "ann").await);
            // Even rounds race one challenge against itself, odd ones two challenges.
            let second = if round % 2 == 0 { one.clone() } else { two };
            let code = world.totp_code(0);
            let (a, b) = tokio::join!(verify(&world, &one, &code), verify(&world, &second, &code));
            assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1, "round {round}: {a:?} {b:?}");
            world.clock.advance(Duration::from_secs(60));
        }
        world.assert_chain_valid().await;
    }

    async fn a_challenge_has_five_tries_and_five_minutes(db) {
        let world = BrokerFixture::with(&db, with_mfa()).await;
        enrolled(&world, "ann", Role::Member).await;
        let (token, _) = challenge(&world, "ann").await;
        for _ in 0..5 {
            assert_eq!(said(verify(&world, &token, "000000").await), "Invalid code");
        }
        let (answer, log) = world.audited_during(verify(&world, &token, &world.totp_code(0))).await;
        assert_eq!(said(answer), "Invalid or expired token");
        assert_eq!(log, ["mfa_failed denied too_many_tries"]);
        let (token, _) = challenge(&world, "ann").await;
        world.clock.advance(Duration::from_secs(301));
        assert_eq!(said(verify(&world, &token, &world.totp_code(0)).await), "Invalid or expired token");
        // New challenges do not buy new guesses for ever.
        let mut throttled = false;
        for _ in 0..4 {
            let Ok(SignIn::MfaRequired { token, .. }) = world.broker.login(&origin(), "ann@example.com", &secret(PASSWORD)).await else { break };
            for _ in 0..5 {
                throttled |= matches!(error_kind(verify(&world, &token, "000000").await), ErrorKind::Throttled(_));
            }
        }
        assert!(throttled);
    }

    async fn a_challenge_does_only_what_it_is_for(db) {
        let world = BrokerFixture::with(&db, with_mfa()).await;
        enrolled(&world, "ann", Role::Member).await;
        world.user("new", Role::Member).await;
        let (to_verify, _) = challenge(&world, "ann").await;
        let (to_enrol, due) = challenge(&world, "new").await;
        assert!(due);
        let (answer, log) = world.audited_during(world.broker.totp_enroll(&origin(), EnrollAs::MfaToken(&to_verify))).await;
        assert_eq!(said(answer), "Invalid or expired token");
        assert_eq!(log, ["mfa_failed denied wrong_purpose"]);
        said(world.broker.totp_confirm(&origin(), EnrollAs::MfaToken(&to_verify), &world.totp_code(0)).await);
        said(verify(&world, &to_enrol, &world.totp_code(0)).await);
        said(verify(&world, &secret("mfa_made-up"), &world.totp_code(0)).await);
        said(verify(&world, &secret(&"x".repeat(100_000)), &world.totp_code(0)).await);
        assert_eq!(error_kind(world.broker.mfa_verify(&origin(), &to_verify, "sms", "1").await), ErrorKind::Invalid);
        // Neither is an access token.
        said(world.broker.authenticate(&origin(), to_verify.expose()).await);
    }

    async fn enrolling_the_first_factor_signs_in(db) {
        let world = BrokerFixture::with(&db, with_mfa()).await;
        world.user("new", Role::Member).await;
        let (token, _) = challenge(&world, "new").await;
        let nothing = world.broker.totp_confirm(&origin(), EnrollAs::MfaToken(&token), "123456").await;
        assert_eq!(error_kind(nothing), ErrorKind::Conflict);
        let first = world.broker.totp_enroll(&origin(), EnrollAs::MfaToken(&token)).await.unwrap();
        let offer = world.broker.totp_enroll(&origin(), EnrollAs::MfaToken(&token)).await.unwrap();
        assert_ne!(first.secret, offer.secret, "unconfirmed replaces unconfirmed");
        assert!(offer.otpauth_url.expose().contains(offer.secret.expose()) && offer.qr_svg.expose().contains("<svg"));
        let old = totp::code_at(&first.secret, totp::step_of(world.broker.now())).unwrap();
        said(world.broker.totp_confirm(&origin(), EnrollAs::MfaToken(&token), &old).await);
        let code = totp::code_at(&offer.secret, totp::step_of(world.broker.now())).unwrap();
        let tokens = world.broker.totp_confirm(&origin(), EnrollAs::MfaToken(&token), &code).await.unwrap().unwrap();
        assert!(tokens.caller.mfa.is_some() && tokens.caller.user.mfa_enrolled);
        let caller = world.broker.authenticate(&origin(), tokens.access_token.expose()).await.unwrap();
        assert!(caller.user.mfa_enrolled && caller.mfa.is_some());
        assert_eq!(error_kind(world.broker.totp_enroll(&origin(), EnrollAs::Caller(&caller)).await), ErrorKind::Conflict);
        said(world.broker.totp_confirm(&origin(), EnrollAs::MfaToken(&token), &code).await);
        let (again, due) = challenge(&world, "new").await;
        assert!(!due, "from now on the factor is asked for");
        assert_eq!(said(verify(&world, &again, &code).await), "Invalid code", "the confirming code is used");
        let text = serde_json::to_string(&world.audit_log().await).unwrap();
        assert!(!text.contains(offer.secret.expose()) && !text.contains(again.expose()));
    }

    async fn a_signed_in_caller_enrols_and_is_verified(db) {
        let world = BrokerFixture::new(&db).await;
        let caller = world.caller("ann", Role::Member).await;
        assert!(caller.mfa.is_none());
        let offer = world.broker.totp_enroll(&origin(), EnrollAs::Caller(&caller)).await.unwrap();
        let code = totp::code_at(&offer.secret, totp::step_of(world.broker.now())).unwrap();
        assert!(world.broker.totp_confirm(&origin(), EnrollAs::Caller(&caller), &code).await.unwrap().is_none());
        let login = world.store.read(move |tx| tx.login(caller.login_id)).await.unwrap().unwrap();
        assert!(login.mfa.is_some());
        // Although policy does not ask everybody for a factor, whoever has one is asked.
        challenge(&world, "ann").await;
    }

    async fn a_disabled_user_gets_nowhere(db) {
        let world = BrokerFixture::with(&db, with_mfa()).await;
        let ann = enrolled(&world, "ann", Role::Member).await;
        let tokens = world.sign_in("ann").await;
        world.clock.advance(Duration::from_secs(60));
        let (token, _) = challenge(&world, "ann").await;
        let off = UserChange { disabled: Some(true), ..UserChange::default() };
        world.broker.update_user(&origin(), &world.system, ann.id, off).await.unwrap();
        assert_eq!(said(verify(&world, &token, &world.totp_code(0)).await), "Invalid or expired token");
        let (answer, log) = world.audited_during(world.broker.authenticate(&origin(), tokens.access_token.expose())).await;
        said(answer);
        assert_eq!(log, ["token_refused denied revoked"]);
        said(world.broker.refresh(&origin(), &tokens.refresh_token).await);
        assert_eq!(said(world.broker.login(&origin(), "ann@example.com", &secret(PASSWORD)).await), "Invalid credentials");
        let on = UserChange { disabled: Some(false), ..UserChange::default() };
        world.broker.update_user(&origin(), &world.system, ann.id, on).await.unwrap();
        said(world.broker.authenticate(&origin(), tokens.access_token.expose()).await);
        world.sign_in("ann").await;
    }

    async fn forged_expired_and_revoked_tokens_are_refused(db) {
        let world = BrokerFixture::new(&db).await;
        world.user("ann", Role::Member).await;
        let tokens = world.sign_in("ann").await;
        let good = tokens.access_token.expose().clone();
        let mut parts: Vec<&str> = good.split('.').collect();
        let none = "eyJhbGciOiJub25lIn0";
        let forged = [
            String::new(),
            "x.y.z".into(),
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            { parts[2] = "AAAA"; parts.join(".") },
            "é".repeat(3000),
        ];
        for token in &forged {
            let (answer, log) = world.audited_during(world.broker.authenticate(&origin(), token)).await;
            said(answer);
            assert_eq!(log, ["token_refused denied forged"], "{token}");
        }
        assert!(world.broker.authenticate(&origin(), &good).await.is_ok());
        // A flood of garbage is refused, and does not flood the log.
        let (_, log) = world.audited_during(async {
            for _ in 0..500 {
                said(world.broker.authenticate(&origin(), "garbage").await);
            }
        }).await;
        assert!(log.len() <= 60, "{}", log.len());
        world.clock.advance(Duration::from_secs(601));
        let (answer, log) = world.audited_during(world.broker.authenticate(&origin(), &good)).await;
        said(answer);
        assert_eq!(log, ["token_refused denied expired"]);
        let tokens = world.broker.refresh(&origin(), &tokens.refresh_token).await.unwrap();
        let caller = world.broker.authenticate(&origin(), tokens.access_token.expose()).await.unwrap();
        world.broker.logout(&origin(), &caller, false).await.unwrap();
        let (answer, log) = world.audited_during(world.broker.authenticate(&origin(), tokens.access_token.expose())).await;
        said(answer);
        assert_eq!(log, ["token_refused denied revoked"]);
        assert_eq!(world.broker.jwks()["keys"].as_array().unwrap().len(), 1);
    }

    async fn a_refresh_token_used_twice_ends_the_login(db) {
        let world = BrokerFixture::new(&db).await;
        let ws = world.workspace("ws-a", WorkspaceChange::default()).await;
        world.user("ann", Role::Member).await;
        let first = world.sign_in("ann").await;
        let other = world.sign_in("ann").await;
        let session = world.launch(&first.caller, &ws).await;
        let mut stream = world.open_stream(&first.caller, session.id).await;
        let mut elsewhere = world.open_stream(&other.caller, session.id).await;
        let second = world.broker.refresh(&origin(), &first.refresh_token).await.unwrap();
        assert_eq!(second.caller.login_id, first.caller.login_id);
        let (answer, log) = world.audited_during(world.broker.refresh(&origin(), &first.refresh_token)).await;
        said(answer);
        assert_eq!(log, ["refresh_reuse denied reused"]);
        assert_eq!(wait_revoked(&mut stream).await, StreamAuthorization::SignedOut);
        said(world.broker.refresh(&origin(), &second.refresh_token).await);
        said(world.broker.authenticate(&origin(), second.access_token.expose()).await);
        assert_eq!(*elsewhere.authorization.borrow_and_update(), StreamAuthorization::Valid, "another login goes on");
        assert!(world.fleet.has_tunnel(session.id), "the desktop stays");
        said(world.broker.refresh(&origin(), &secret("prt_made-up")).await);
    }

    async fn of_two_refreshes_at_once_one_succeeds(db) {
        let world = BrokerFixture::new(&db).await;
        world.user("ann", Role::Member).await;
        for round in 0..8 {
            let tokens = world.sign_in("ann").await;
            let from = origin();
            let refresh = || world.broker.refresh(&from, &tokens.refresh_token);
            let (a, b) = tokio::join!(refresh(), refresh());
            assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1, "round {round}");
            assert!(!world.login_alive(tokens.caller.login_id).await);
        }
    }

    async fn signing_out_here_and_everywhere(db) {
        let world = BrokerFixture::new(&db).await;
        let ws = world.workspace("ws-a", WorkspaceChange::default()).await;
        world.user("ann", Role::Member).await;
        let (here, there): (Caller, Caller) = (world.sign_in("ann").await.caller, world.sign_in("ann").await.caller);
        let session = world.launch(&here, &ws).await;
        let (mut near, mut far) = (world.open_stream(&here, session.id).await, world.open_stream(&there, session.id).await);
        world.broker.logout(&origin(), &here, false).await.unwrap();
        assert_eq!(wait_revoked(&mut near).await, StreamAuthorization::SignedOut);
        assert_eq!(*far.authorization.borrow_and_update(), StreamAuthorization::Valid);
        assert!(world.fleet.has_tunnel(session.id));
        let (_, log) = world.audited_during(async { world.broker.logout(&origin(), &there, true).await.unwrap() }).await;
        assert_eq!(log, ["logout_everywhere success -", "terminate_session success signed_out", "close_session success signed_out"]);
        assert_eq!(wait_revoked(&mut far).await, StreamAuthorization::SessionEnded(portcullis::domain::session::EndReason::SignedOut));
        assert!(!world.login_alive(there.login_id).await);
        world.assert_empty().await;
        assert!(world.broker.session(&there, SessionId::new()).await.is_err());
    }
}
