//! Limits of sign-in: what a guesser gets, and what everybody else notices of it (docs/adr/0024).

use super::fixture::*;
use futures_util::future::join_all;
use portcullis::auth::{Attempt, GuessLimiter};
use portcullis::broker::Settings;
use portcullis::broker::core::settings::Limits;
use portcullis::broker::model::*;
use portcullis::domain::rate_limit::Quota;
use portcullis::domain::secret::SecretString;
use portcullis::domain::user::{RequestSource, Role, User};
use portcullis::domain::{ErrorKind, Result, UserId};
use std::time::Duration;

const ANN: &str = "ann@example.com";
const DAY: Duration = Duration::from_secs(86_400);

fn at(address: &str) -> RequestSource {
    RequestSource { source_ip: Some(address.parse().unwrap()), ..origin() }
}

fn bot(n: u32) -> RequestSource {
    RequestSource { source_ip: Some(std::net::IpAddr::V4((0xc633_6400 + n).into())), ..origin() }
}

async fn sign_in(
    fixture: &BrokerFixture,
    from: &RequestSource,
    browser: Option<&SecretString>,
    email: &str,
    password: &str,
) -> Result<SignIn> {
    fixture.broker.passwords().sign_in(from, browser, email, &secret(password)).await
}

async fn challenge(fixture: &BrokerFixture, from: &RequestSource) -> SecretString {
    match sign_in(fixture, from, None, ANN, PASSWORD).await.unwrap() {
        SignIn::MfaRequired { token, .. } => token,
        SignIn::Done(_) => panic!("no second factor was asked for"),
    }
}

/// Wrong passwords until refused; how many were looked at.
async fn guess(fixture: &BrokerFixture, from: &RequestSource, email: &str) -> usize {
    for n in 0..200 {
        let error = sign_in(fixture, from, None, email, "wrong").await.unwrap_err();
        match error.kind {
            ErrorKind::Throttled(wait) => {
                assert!(wait > Duration::ZERO);
                return n;
            }
            other => assert_eq!(other, ErrorKind::Unauthenticated),
        }
    }
    panic!("nothing limits wrong passwords");
}

/// Wrong codes until refused; how many were looked at.
async fn guess_codes(fixture: &BrokerFixture, from: &RequestSource) -> usize {
    for n in 0..200 {
        let token = challenge(fixture, from).await;
        let tried = fixture.broker.totp().verify(from, None, &token, "000000").await;
        if let ErrorKind::Throttled(_) = error_kind(tried) {
            return n;
        }
    }
    panic!("nothing limits wrong codes");
}

fn cookie(answer: SignIn) -> SecretString {
    match answer {
        SignIn::Done(tokens) => tokens.known_browser.unwrap().value,
        SignIn::MfaRequired { .. } => panic!("a second factor was asked for"),
    }
}

/// An account's bucket that ten addresses' tries do not fill.
fn small_account() -> Settings {
    let mut settings = settings();
    settings.limits.passwords.pair.burst = 3;
    settings.limits.passwords.account.burst = 6;
    settings
}

fn mfa() -> Settings {
    Settings { mfa_required: true, ..settings() }
}

async fn enrolled(fixture: &BrokerFixture) -> User {
    let user = fixture.user("ann", Role::Member).await;
    fixture.broker.totp().set(&origin(), &fixture.system, user.id, &secret(SECRET)).await.unwrap();
    user
}

on_both! {
    async fn nobody_elses_wrong_passwords_lock_an_account(db) {
        let fixture = BrokerFixture::new(&db).await;
        fixture.user("ann", Role::Member).await;
        for email in [ANN, "nobody@example.com"] {
            assert_eq!(guess(&fixture, &at("198.51.100.1"), email).await, 10);
        }
        for _ in 0..10 {
            sign_in(&fixture, &at("192.0.2.8"), None, ANN, PASSWORD).await.unwrap();
        }
        // Somebody who mistypes beside it has a whole allowance, too.
        for _ in 0..9 {
            let error = sign_in(&fixture, &at("192.0.2.9"), None, ANN, "wrong").await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unauthenticated);
        }
        sign_in(&fixture, &at("192.0.2.9"), None, ANN, PASSWORD).await.unwrap();
        fixture.assert_chain_valid().await;
    }

    async fn many_users_behind_one_address_sign_in(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ann = fixture.user("ann", Role::Member).await;
        // Cheap parameters: it is the limits that are tested, all at one moment.
        let hash = cheap_hash();
        fixture.store.write(move |tx| {
            for n in 0..500 {
                let user = User { id: UserId::new(), email: format!("u{n}@example.com"), ..ann.clone() };
                tx.insert_user(&user, &hash)?;
            }
            Ok(())
        }).await.unwrap();
        let shared = at("203.0.113.5");
        // One in ten mistypes first.
        let people = (0..500).map(|n| {
            let (broker, shared) = (fixture.broker.clone(), shared.clone());
            tokio::spawn(async move {
                let email = format!("u{n}@example.com");
                let sign_in = |password: &str| {
                    let (broker, shared, email, password) = (broker.clone(), shared.clone(), email.clone(), secret(password));
                    async move { broker.passwords().sign_in(&shared, None, &email, &password).await }
                };
                if n % 10 == 0 {
                    assert_eq!(error_kind(sign_in("wrong").await), ErrorKind::Unauthenticated);
                }
                sign_in(PASSWORD).await.map(|_| ())
            })
        });
        for (n, answer) in join_all(people.collect::<Vec<_>>()).await.into_iter().enumerate() {
            answer.unwrap().unwrap_or_else(|error| panic!("person {n}: {error:?}"));
        }
    }

    async fn wrong_codes_of_another_address_lock_nobody(db) {
        let fixture = BrokerFixture::with(&db, mfa()).await;
        enrolled(&fixture).await;
        assert_eq!(guess_codes(&fixture, &at("198.51.100.1")).await, 10);
        let home = at("192.0.2.8");
        let token = challenge(&fixture, &home).await;
        let tokens = fixture.broker.totp().verify(&home, None, &token, &fixture.totp_code(0)).await.unwrap();
        assert_eq!(tokens.wrong_codes, 10, "she is told that somebody has her password");
        fixture.clock.advance(Duration::from_secs(30));
        let token = challenge(&fixture, &home).await;
        let tokens = fixture.broker.totp().verify(&home, None, &token, &fixture.totp_code(0)).await.unwrap();
        assert_eq!(tokens.wrong_codes, 0, "once");
    }

    async fn a_known_browser_signs_in_beside_any_attack(db) {
        let fixture = BrokerFixture::with(&db, small_account()).await;
        let ann = fixture.user("ann", Role::Member).await;
        fixture.user("bob", Role::Member).await;
        let home = at("198.51.100.1");
        let known = cookie(sign_in(&fixture, &home, None, ANN, PASSWORD).await.unwrap());
        let (_, log) = fixture.audited_during(async {
            for n in 0..20 {
                guess(&fixture, &bot(n), ANN).await;
            }
        }).await;
        assert_eq!(log.iter().filter(|entry| *entry == "sign_in_slowed denied too_many_tries").count(), 1, "{log:?}");
        // Unknown browsers wait, at her own address, which is one of the attackers', and elsewhere.
        for from in [&home, &at("192.0.2.8")] {
            assert!(matches!(error_kind(sign_in(&fixture, from, None, ANN, PASSWORD).await), ErrorKind::Throttled(_)));
        }
        let next = cookie(sign_in(&fixture, &home, Some(&known), ANN, PASSWORD).await.unwrap());
        // The cookie is for her, and does not replace the password.
        for browser in [None, Some(&secret("")), Some(&secret("v1.AAAA")), Some(&secret(&"x".repeat(10_000)))] {
            assert!(matches!(error_kind(sign_in(&fixture, &home, browser, ANN, PASSWORD).await), ErrorKind::Throttled(_)));
        }
        let bobs = cookie(sign_in(&fixture, &at("192.0.2.8"), None, "bob@example.com", PASSWORD).await.unwrap());
        assert!(matches!(error_kind(sign_in(&fixture, &home, Some(&bobs), ANN, PASSWORD).await), ErrorKind::Throttled(_)));
        for _ in 0..10 {
            assert_eq!(error_kind(sign_in(&fixture, &home, Some(&next), ANN, "wrong").await), ErrorKind::Unauthenticated);
        }
        assert!(matches!(error_kind(sign_in(&fixture, &home, Some(&next), ANN, PASSWORD).await), ErrorKind::Throttled(_)), "a stolen cookie has ten tries, too");
        // A browser that several people use is known to each.
        let both = cookie(sign_in(&fixture, &at("192.0.2.8"), Some(&known), "bob@example.com", PASSWORD).await.unwrap());
        let both = cookie(sign_in(&fixture, &home, Some(&both), ANN, PASSWORD).await.unwrap());
        // A new password, or a disabled account, ends it.
        let change = UserChange { password: Some(secret("another long password")), ..UserChange::default() };
        fixture.broker.users().update(&origin(), &fixture.system, ann.id, change).await.unwrap();
        assert!(matches!(error_kind(sign_in(&fixture, &home, Some(&both), ANN, "another long password").await), ErrorKind::Throttled(_)));
        let text = serde_json::to_string(&fixture.audit_log().await).unwrap();
        assert!(!text.contains(known.expose()) && !text.contains(both.expose()));
    }

    async fn a_known_browser_is_forgotten_in_time(db) {
        let fixture = BrokerFixture::with(&db, small_account()).await;
        fixture.user("ann", Role::Member).await;
        let home = at("198.51.100.1");
        let known = cookie(sign_in(&fixture, &home, None, ANN, PASSWORD).await.unwrap());
        for (days, is_known) in [(89, true), (2, false)] {
            fixture.clock.advance(DAY * days);
            for n in 0..20 {
                guess(&fixture, &bot(n), ANN).await;
            }
            let answer = sign_in(&fixture, &home, Some(&known), ANN, PASSWORD).await;
            assert_eq!(answer.is_ok(), is_known, "{days}");
        }
    }

    async fn the_queue_of_an_attacked_account_is_fair(db) {
        let fixture = BrokerFixture::with(&db, small_account()).await;
        fixture.user("ann", Role::Member).await;
        for n in 0..20 {
            guess(&fixture, &bot(n), ANN).await;
        }
        let ErrorKind::Throttled(wait) = error_kind(sign_in(&fixture, &at("192.0.2.8"), None, ANN, PASSWORD).await) else { panic!() };
        assert!(wait <= Duration::from_secs(5 * 20), "{wait:?}");
        fixture.clock.advance(wait);
        // Whoever comes first at that moment does not take her turn.
        for n in 0..30 {
            guess(&fixture, &bot(n), ANN).await;
        }
        sign_in(&fixture, &at("192.0.2.8"), None, ANN, PASSWORD).await.unwrap();
    }

    async fn a_disabled_accounts_right_password_is_a_wrong_one(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ann = fixture.user("ann", Role::Member).await;
        let off = UserChange { disabled: Some(true), ..UserChange::default() };
        fixture.broker.users().update(&origin(), &fixture.system, ann.id, off).await.unwrap();
        for email in [ANN, "nobody@example.com"] {
            for n in 0..11 {
                let kind = error_kind(sign_in(&fixture, &at("192.0.2.8"), None, email, PASSWORD).await);
                assert_eq!(matches!(kind, ErrorKind::Throttled(_)), n == 10, "{email} {n}");
            }
        }
    }

    async fn a_clock_that_was_ahead_locks_nobody_out(db) {
        let fixture = BrokerFixture::new(&db).await;
        fixture.user("ann", Role::Member).await;
        fixture.clock.advance(DAY * 10);
        guess(&fixture, &at("192.0.2.8"), ANN).await;
        fixture.clock.rewind(DAY * 10);
        sign_in(&fixture, &at("192.0.2.8"), None, ANN, PASSWORD).await.unwrap();
    }

    async fn a_clock_that_was_ahead_locks_no_code_out(db) {
        let fixture = BrokerFixture::with(&db, mfa()).await;
        enrolled(&fixture).await;
        let home = at("192.0.2.8");
        fixture.clock.advance(DAY * 10);
        let token = challenge(&fixture, &home).await;
        fixture.broker.totp().verify(&home, None, &token, &fixture.totp_code(0)).await.unwrap();
        guess_codes(&fixture, &home).await;
        fixture.clock.rewind(DAY * 10);
        let token = challenge(&fixture, &home).await;
        let code = fixture.totp_code(0);
        fixture.broker.totp().verify(&home, None, &token, &code).await.unwrap();
        // The code that this clock accepted is used all the same.
        fixture.clock.advance(Duration::from_secs(6));
        let token = challenge(&fixture, &home).await;
        assert_eq!(error_kind(fixture.broker.totp().verify(&home, None, &token, &code).await), ErrorKind::Unauthenticated);
    }
}

/// Codes that are looked at in a year, when `addresses` try them whenever they may.
fn codes_in_a_year(addresses: u32) -> u32 {
    let limiter = GuessLimiter::new(Limits::default().codes);
    let mut looked_at = 0;
    for minutes in (0..365 * 24 * 60).step_by(5) {
        let now = portcullis::domain::Timestamp(1_772_721_000_000 + i64::from(minutes) * 60_000);
        for n in 0..addresses {
            let attempt = Attempt::new("ann", bot(n).source_ip, None);
            while limiter.acquire(&attempt, now).is_ok() {
                looked_at += 1;
            }
        }
    }
    looked_at
}

#[test]
fn codes_cannot_be_guessed_with_a_known_password() {
    // Three of a million codes are right at any moment. Before: 2,880 a day, 1,051,200 a year.
    let (one, many) = (codes_in_a_year(1), codes_in_a_year(20));
    assert!(one <= 9_000 && many <= 18_000, "{one} of one address, {many} of twenty");
}

#[test]
fn the_defaults_are_those_of_the_decision() {
    let limits = Limits::default();
    assert_eq!(limits.passwords.pair, Quota { burst: 10, interval: Duration::from_secs(30) });
    assert!(limits.waiting_sign_ins / 2 >= 500, "an office of 500 at one moment");
}

fn cheap_hash() -> String {
    use argon2::password_hash::PasswordHasher as _;
    let params = argon2::Params::new(8, 1, 1, Some(32)).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash: argon2::password_hash::phc::PasswordHash =
        argon2.hash_password(PASSWORD.as_bytes()).unwrap();
    hash.to_string()
}
