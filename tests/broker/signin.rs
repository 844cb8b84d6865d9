//! Sign-in: who gets in, who does not, and what each learns.

use super::fixture::*;
use portcullis::auth::totp;
use portcullis::broker::Settings;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::broker::model::*;
use portcullis::domain::secret::SecretString;
use portcullis::domain::user::Role;
use portcullis::domain::{ErrorKind, Result, SessionId};
use std::time::Duration;

fn with_mfa() -> Settings {
    Settings { mfa_required: true, ..settings() }
}

/// The challenge of a first factor, and whether enrolment is due.
async fn challenge(fixture: &BrokerFixture, name: &str) -> (SecretString, bool) {
    match fixture
        .broker
        .passwords()
        .sign_in(&origin(), None, &format!("{name}@example.com"), &secret(PASSWORD))
        .await
        .unwrap()
    {
        SignIn::MfaRequired { token, enrollment_required, .. } => (token, enrollment_required),
        SignIn::Done(_) => panic!("no second factor was asked for"),
    }
}

async fn enrolled(
    fixture: &BrokerFixture,
    name: &str,
    role: Role,
) -> portcullis::domain::user::User {
    let user = fixture.user(name, role).await;
    fixture.broker.totp().set(&origin(), &fixture.system, user.id, &secret(SECRET)).await.unwrap();
    user
}

async fn verify(fixture: &BrokerFixture, token: &SecretString, code: &str) -> Result<Tokens> {
    fixture.broker.totp().verify(&origin(), None, token, code).await
}

fn error_message<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    error.message
}

on_both! {
    async fn all_failures_have_the_same_message(db) {
        let fixture = BrokerFixture::new(&db).await;
        fixture.user("ann", Role::Member).await;
        let bob = fixture.user("bob", Role::Member).await;
        let off = UserChange { disabled: Some(true), ..UserChange::default() };
        fixture.broker.users().update(&origin(), &fixture.system, bob.id, off).await.unwrap();
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
            let (answer, log) = fixture.audited_during(fixture.broker.passwords().sign_in(&origin(), None, email, &secret(password))).await;
            assert_eq!(error_message(answer), "Invalid credentials", "{email}");
            assert_eq!(log, [format!("login_failed denied {reason}")], "{email}");
        }
        let (answer, log) = fixture.audited_during(fixture.broker.passwords().sign_in(&origin(), None, " ANN@example.com ", &secret(PASSWORD))).await;
        assert!(matches!(answer.unwrap(), SignIn::Done(_)));
        assert_eq!(log, ["login success -"]);
        assert!(!serde_json::to_string(&fixture.audit_log().await).unwrap().contains(PASSWORD));
        fixture.assert_chain_valid().await;
    }

    async fn unknown_account_costs_one_hash(db) {
        let fixture = BrokerFixture::new(&db).await;
        fixture.user("ann", Role::Member).await;
        let off = fixture.user("off", Role::Member).await;
        let disabled = UserChange { disabled: Some(true), ..UserChange::default() };
        fixture.broker.users().update(&origin(), &fixture.system, off.id, disabled).await.unwrap();
        let long = "x".repeat(5000);
        // Argon2id is what a sign-in costs: every refusal is one computation of it, whoever is
        // refused and why.
        for email in ["ann@example.com", "nobody@example.com", "off@example.com", "", "a\0b@example.com"] {
            for password in ["wrong", "", &long] {
                let before = fixture.broker.passwords().hash_count();
                error_message(fixture.broker.passwords().sign_in(&origin(), None, email, &secret(password)).await);
                assert_eq!(fixture.broker.passwords().hash_count() - before, 1, "{email:?}, {} bytes", password.len());
            }
        }
        // Throttled ones cost nothing, alike.
        for email in ["ann@example.com", "nobody@example.com"] {
            while fixture.broker.passwords().sign_in(&origin(), None, email, &secret("wrong")).await.is_err_and(|e| e.kind == ErrorKind::Unauthenticated) {}
            let before = fixture.broker.passwords().hash_count();
            assert!(matches!(error_kind(fixture.broker.passwords().sign_in(&origin(), None, email, &secret("wrong")).await), ErrorKind::Throttled(_)));
            assert_eq!(fixture.broker.passwords().hash_count(), before, "{email}");
        }
    }

    async fn throttling_does_not_reveal_accounts(db) {
        let fixture = BrokerFixture::new(&db).await;
        fixture.user("ann", Role::Member).await;
        for email in ["ann@example.com", "nobody@example.com"] {
            for _ in 0..10 {
                error_message(fixture.broker.passwords().sign_in(&origin(), None, email, &secret("wrong")).await);
            }
            let (answer, log) = fixture.audited_during(fixture.broker.passwords().sign_in(&origin(), None, email, &secret(PASSWORD))).await;
            assert!(matches!(error_kind(answer), ErrorKind::Throttled(wait) if wait > Duration::ZERO), "{email}");
            assert_eq!(log, ["login_throttled denied too_many_tries"]);
        }
        // A flood beyond it is answered, but fills no log.
        let (_, log) = fixture.audited_during(async {
            for _ in 0..200 {
                let _ = fixture.broker.passwords().sign_in(&origin(), None, "ann@example.com", &secret("wrong")).await;
            }
        }).await;
        assert!(log.len() <= 60, "{}", log.len());
        fixture.clock.advance(Duration::from_secs(31));
        assert!(fixture.broker.passwords().sign_in(&origin(), None, "ann@example.com", &secret(PASSWORD)).await.is_ok());
        let _ = fixture.broker.logins().authenticate(&origin(), "garbage").await;
        let last = fixture.audit_log().await.pop().unwrap();
        assert!(last.details["left_out_before"].as_u64() > Some(100), "{last:?}");
    }

    async fn sign_in_burst_is_rejected(db) {
        let mut settings = settings();
        settings.limits.waiting_sign_ins = 32;
        let fixture = BrokerFixture::with(&db, settings).await;
        let from = portcullis::domain::user::RequestSource { source_ip: None, ..origin() };
        let tries = (0..120).map(|i| {
            let (broker, from) = (fixture.broker.clone(), from.clone());
            tokio::spawn(async move { broker.passwords().sign_in(&from, None, &format!("u{i}@example.com"), &secret("wrong")).await })
        });
        let mut turned_away = 0;
        for answer in futures_util::future::join_all(tries.collect::<Vec<_>>()).await {
            match error_kind(answer.unwrap()) {
                ErrorKind::Throttled(wait) => { assert!(wait > Duration::ZERO); turned_away += 1 }
                other => assert_eq!(other, ErrorKind::Unauthenticated),
            }
        }
        assert!(turned_away > 0);
        fixture.user("ann", Role::Member).await;
        fixture.sign_in("ann").await;
    }

    async fn code_is_accepted_once(db) {
        let fixture = BrokerFixture::with(&db, with_mfa()).await;
        let ann = enrolled(&fixture, "ann", Role::Member).await;
        let (token, enrol) = challenge(&fixture, "ann").await;
        assert!(!enrol);
        assert_eq!(error_message(verify(&fixture, &token, "000000").await), "Invalid code");
        let (tokens, log) = fixture.audited_during(verify(&fixture, &token, &fixture.totp_code(0))).await;
        let tokens = tokens.unwrap();
        assert_eq!(log, ["mfa_verify success -"]);
        assert_eq!(tokens.caller.user.id, ann.id);
        assert_eq!(tokens.caller.mfa.unwrap().verified_at, fixture.broker.now());
        assert_eq!(error_message(verify(&fixture, &token, &fixture.totp_code(1)).await), "Invalid or expired token", "the challenge is used up");
        let (token, _) = challenge(&fixture, "ann").await;
        let (answer, log) = fixture.audited_during(verify(&fixture, &token, &fixture.totp_code(0))).await;
        assert_eq!(error_message(answer), "Invalid code");
        assert_eq!(log, ["mfa_failed denied reused_code"]);
        fixture.clock.advance(Duration::from_secs(30));
        let caller = verify(&fixture, &token, &fixture.totp_code(0)).await.unwrap();
        let seen = fixture.broker.logins().authenticate(&origin(), caller.access_token.expose()).await.unwrap();
        assert!(seen.mfa().is_some());
    }

    async fn code_race_has_one_winner(db) {
        let fixture = BrokerFixture::with(&db, with_mfa()).await;
        enrolled(&fixture, "ann", Role::Member).await;
        for round in 0..12 {
            let ((one, _), (two, _)) = (challenge(&fixture, "ann").await, challenge(&fixture, "ann").await);
            // Even rounds race one challenge against itself, odd ones two challenges.
            let second = if round % 2 == 0 { one.clone() } else { two };
            let code = fixture.totp_code(0);
            let (a, b) = tokio::join!(verify(&fixture, &one, &code), verify(&fixture, &second, &code));
            assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1, "round {round}: {a:?} {b:?}");
            fixture.clock.advance(Duration::from_secs(60));
        }
        fixture.assert_chain_valid().await;
    }

    async fn challenge_has_five_attempts_and_five_minutes(db) {
        let fixture = BrokerFixture::with(&db, with_mfa()).await;
        enrolled(&fixture, "ann", Role::Member).await;
        let (token, _) = challenge(&fixture, "ann").await;
        for _ in 0..5 {
            assert_eq!(error_message(verify(&fixture, &token, "000000").await), "Invalid code");
        }
        let (answer, log) = fixture.audited_during(verify(&fixture, &token, &fixture.totp_code(0))).await;
        assert_eq!(error_message(answer), "Invalid or expired token");
        assert_eq!(log, ["mfa_failed denied too_many_tries"]);
        let (token, _) = challenge(&fixture, "ann").await;
        fixture.clock.advance(Duration::from_secs(301));
        assert_eq!(error_message(verify(&fixture, &token, &fixture.totp_code(0)).await), "Invalid or expired token");
        // New challenges do not buy new guesses for ever.
        let mut throttled = false;
        for _ in 0..4 {
            let Ok(SignIn::MfaRequired { token, .. }) = fixture.broker.passwords().sign_in(&origin(), None, "ann@example.com", &secret(PASSWORD)).await else { break };
            for _ in 0..5 {
                throttled |= matches!(error_kind(verify(&fixture, &token, "000000").await), ErrorKind::Throttled(_));
            }
        }
        assert!(throttled);
    }

    async fn challenge_is_bound_to_its_purpose(db) {
        let fixture = BrokerFixture::with(&db, with_mfa()).await;
        enrolled(&fixture, "ann", Role::Member).await;
        fixture.user("new", Role::Member).await;
        let (to_verify, _) = challenge(&fixture, "ann").await;
        let (to_enrol, due) = challenge(&fixture, "new").await;
        assert!(due);
        let (answer, log) = fixture.audited_during(fixture.broker.totp().enroll(&origin(), EnrollAs::MfaToken(&to_verify))).await;
        assert_eq!(error_message(answer), "Invalid or expired token");
        assert_eq!(log, ["mfa_failed denied wrong_purpose"]);
        error_message(fixture.broker.totp().confirm(&origin(), None, EnrollAs::MfaToken(&to_verify), &fixture.totp_code(0)).await);
        error_message(verify(&fixture, &to_enrol, &fixture.totp_code(0)).await);
        error_message(verify(&fixture, &secret("mfa_made-up"), &fixture.totp_code(0)).await);
        error_message(verify(&fixture, &secret(&"x".repeat(100_000)), &fixture.totp_code(0)).await);
        // Neither is an access token.
        error_message(fixture.broker.logins().authenticate(&origin(), to_verify.expose()).await);
    }

    async fn first_enrolment_completes_sign_in(db) {
        let fixture = BrokerFixture::with(&db, with_mfa()).await;
        fixture.user("new", Role::Member).await;
        let (token, _) = challenge(&fixture, "new").await;
        let nothing = fixture.broker.totp().confirm(&origin(), None, EnrollAs::MfaToken(&token), "123456").await;
        assert_eq!(error_kind(nothing), ErrorKind::Conflict);
        let first = fixture.broker.totp().enroll(&origin(), EnrollAs::MfaToken(&token)).await.unwrap();
        let offer = fixture.broker.totp().enroll(&origin(), EnrollAs::MfaToken(&token)).await.unwrap();
        assert_ne!(first.secret, offer.secret, "unconfirmed replaces unconfirmed");
        assert!(offer.otpauth_url.expose().contains(offer.secret.expose()) && offer.qr_svg.expose().contains("<svg"));
        let old = totp::code_at(&first.secret, totp::step_of(fixture.broker.now())).unwrap();
        error_message(fixture.broker.totp().confirm(&origin(), None, EnrollAs::MfaToken(&token), &old).await);
        let code = totp::code_at(&offer.secret, totp::step_of(fixture.broker.now())).unwrap();
        let tokens = fixture.broker.totp().confirm(&origin(), None, EnrollAs::MfaToken(&token), &code).await.unwrap().unwrap();
        assert!(tokens.caller.mfa.is_some() && tokens.caller.user.mfa_enrolled);
        let caller = fixture.broker.logins().authenticate(&origin(), tokens.access_token.expose()).await.unwrap();
        assert!(caller.user().unwrap().user.mfa_enrolled && caller.mfa().is_some());
        assert_eq!(error_kind(fixture.broker.totp().enroll(&origin(), EnrollAs::SignedIn(&caller)).await), ErrorKind::Conflict);
        error_message(fixture.broker.totp().confirm(&origin(), None, EnrollAs::MfaToken(&token), &code).await);
        let (again, due) = challenge(&fixture, "new").await;
        assert!(!due, "from now on the factor is asked for");
        assert_eq!(error_message(verify(&fixture, &again, &code).await), "Invalid code", "the confirming code is used");
        let text = serde_json::to_string(&fixture.audit_log().await).unwrap();
        assert!(!text.contains(offer.secret.expose()) && !text.contains(again.expose()));
    }

    async fn signed_in_user_enrols_and_is_verified(db) {
        let fixture = BrokerFixture::new(&db).await;
        let caller = fixture.caller("ann", Role::Member).await;
        assert!(caller.mfa().is_none());
        let offer = fixture.broker.totp().enroll(&origin(), EnrollAs::SignedIn(&caller)).await.unwrap();
        let code = totp::code_at(&offer.secret, totp::step_of(fixture.broker.now())).unwrap();
        assert!(fixture.broker.totp().confirm(&origin(), None, EnrollAs::SignedIn(&caller), &code).await.unwrap().is_none());
        let login = fixture.store.read(move |tx| tx.login(caller.login_id)).await.unwrap().unwrap();
        assert!(login.mfa.is_some());
        // Although policy does not ask everybody for a factor, whoever has one is asked.
        challenge(&fixture, "ann").await;
    }

    async fn disabled_user_is_refused(db) {
        let fixture = BrokerFixture::with(&db, with_mfa()).await;
        let ann = enrolled(&fixture, "ann", Role::Member).await;
        let tokens = fixture.sign_in("ann").await;
        fixture.clock.advance(Duration::from_secs(60));
        let (token, _) = challenge(&fixture, "ann").await;
        let off = UserChange { disabled: Some(true), ..UserChange::default() };
        fixture.broker.users().update(&origin(), &fixture.system, ann.id, off).await.unwrap();
        assert_eq!(error_message(verify(&fixture, &token, &fixture.totp_code(0)).await), "Invalid or expired token");
        let (answer, log) = fixture.audited_during(fixture.broker.logins().authenticate(&origin(), tokens.access_token.expose())).await;
        error_message(answer);
        assert_eq!(log, ["token_refused denied revoked"]);
        error_message(fixture.broker.logins().refresh(&origin(), &tokens.refresh_token, None).await);
        assert_eq!(error_message(fixture.broker.passwords().sign_in(&origin(), None, "ann@example.com", &secret(PASSWORD)).await), "Invalid credentials");
        let on = UserChange { disabled: Some(false), ..UserChange::default() };
        fixture.broker.users().update(&origin(), &fixture.system, ann.id, on).await.unwrap();
        error_message(fixture.broker.logins().authenticate(&origin(), tokens.access_token.expose()).await);
        fixture.sign_in("ann").await;
    }

    async fn forged_expired_and_revoked_tokens_are_refused(db) {
        let fixture = BrokerFixture::new(&db).await;
        fixture.user("ann", Role::Member).await;
        let tokens = fixture.sign_in("ann").await;
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
            let (answer, log) = fixture.audited_during(fixture.broker.logins().authenticate(&origin(), token)).await;
            error_message(answer);
            assert_eq!(log, ["token_refused denied forged"], "{token}");
        }
        assert!(fixture.broker.logins().authenticate(&origin(), &good).await.is_ok());
        // A flood of garbage is refused, and does not flood the log.
        let (_, log) = fixture.audited_during(async {
            for _ in 0..500 {
                error_message(fixture.broker.logins().authenticate(&origin(), "garbage").await);
            }
        }).await;
        assert!(log.len() <= 60, "{}", log.len());
        fixture.clock.advance(Duration::from_secs(601));
        let (answer, log) = fixture.audited_during(fixture.broker.logins().authenticate(&origin(), &good)).await;
        error_message(answer);
        assert_eq!(log, ["token_refused denied expired"]);
        let tokens = fixture.broker.logins().refresh(&origin(), &tokens.refresh_token, None).await.unwrap();
        let caller = fixture.broker.logins().authenticate(&origin(), tokens.access_token.expose()).await.unwrap();
        fixture.broker.logins().logout(&origin(), &caller, false).await.unwrap();
        let (answer, log) = fixture.audited_during(fixture.broker.logins().authenticate(&origin(), tokens.access_token.expose())).await;
        error_message(answer);
        assert_eq!(log, ["token_refused denied revoked"]);
        assert_eq!(fixture.broker.logins().jwks()["keys"].as_array().unwrap().len(), 1);
    }

    async fn refresh_token_reuse_revokes_login(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        fixture.user("ann", Role::Member).await;
        let first = fixture.sign_in("ann").await;
        let other = fixture.sign_in("ann").await;
        let session = fixture.launch(&first.caller, &ws).await;
        let mut stream = fixture.open_stream(&first.caller, session.id).await;
        let mut elsewhere = fixture.open_stream(&other.caller, session.id).await;
        let second = fixture.broker.logins().refresh(&origin(), &first.refresh_token, None).await.unwrap();
        assert_eq!(second.caller.login_id, first.caller.login_id);
        let (answer, log) = fixture.audited_during(fixture.broker.logins().refresh(&origin(), &first.refresh_token, None)).await;
        error_message(answer);
        assert_eq!(log, ["refresh_reuse denied reused"]);
        assert_eq!(wait_revoked(&mut stream).await, StreamAuthorization::SignedOut);
        error_message(fixture.broker.logins().refresh(&origin(), &second.refresh_token, None).await);
        error_message(fixture.broker.logins().authenticate(&origin(), second.access_token.expose()).await);
        assert_eq!(*elsewhere.authorization.borrow_and_update(), StreamAuthorization::Valid, "another login goes on");
        assert!(fixture.fleet.has_tunnel(session.id), "the desktop stays");
        error_message(fixture.broker.logins().refresh(&origin(), &secret("prt_made-up"), None).await);
    }

    async fn refresh_race_has_one_winner(db) {
        let fixture = BrokerFixture::new(&db).await;
        fixture.user("ann", Role::Member).await;
        for round in 0..8 {
            let tokens = fixture.sign_in("ann").await;
            let from = origin();
            let refresh = || fixture.broker.logins().refresh(&from, &tokens.refresh_token, None);
            let (a, b) = tokio::join!(refresh(), refresh());
            assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1, "round {round}");
            assert!(!fixture.login_alive(tokens.caller.login_id).await);
        }
    }

    async fn logout_here_and_everywhere(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        fixture.user("ann", Role::Member).await;
        let (here, there): (Caller, Caller) = (fixture.sign_in("ann").await.caller, fixture.sign_in("ann").await.caller);
        let session = fixture.launch(&here, &ws).await;
        let (mut near, mut far) = (fixture.open_stream(&here, session.id).await, fixture.open_stream(&there, session.id).await);
        fixture.broker.logins().logout(&origin(), &here, false).await.unwrap();
        assert_eq!(wait_revoked(&mut near).await, StreamAuthorization::SignedOut);
        assert_eq!(*far.authorization.borrow_and_update(), StreamAuthorization::Valid);
        assert!(fixture.fleet.has_tunnel(session.id));
        let (_, log) = fixture.audited_during(async { fixture.broker.logins().logout(&origin(), &there, true).await.unwrap() }).await;
        assert_eq!(log, ["logout_everywhere success -", "terminate_session success signed_out", "close_session success signed_out"]);
        assert_eq!(wait_revoked(&mut far).await, StreamAuthorization::SessionEnded(portcullis::domain::session::EndReason::SignedOut));
        assert!(!fixture.login_alive(there.login_id).await);
        fixture.assert_empty().await;
        assert!(fixture.broker.sessions().get(&there, SessionId::new()).await.is_err());
    }
}
