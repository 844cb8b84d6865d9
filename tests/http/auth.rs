//! Sign-in over HTTP: factors, tokens, refresh, refusals.

use crate::support::app::TestApp;
use portcullis::auth::totp;
use portcullis::domain::Clock as _;
use portcullis::domain::secret::SecretString;
use serde_json::{Value, json};
use std::time::Duration;

on_both! {
    async fn two_factors_give_tokens(db) {
        let app = TestApp::start(db).await;
        let client = app.anonymous();
        let person = app.user("member").clone();
        let first = client.post("/api/auth/login", json!({"email": person.email, "password": app.password})).await.json();
        assert_eq!(first["mfa_required"], true);
        assert_eq!(first["methods"], json!(["totp"]));
        assert_eq!(first["enrollment_required"], false);
        assert!(first.get("access_token").is_none());

        let other = client.post("/api/auth/mfa/verify", json!({"mfa_token": first["mfa_token"], "method": "sms", "code": "1"})).await;
        assert_eq!((other.status, other.detail().as_str()), (422, "method must be \"totp\"."));

        let tokens = app.sign_in(&client, "member").await.json();
        assert_eq!(tokens["mfa_required"], false);
        assert_eq!(tokens["token_type"], "bearer");
        assert_eq!(tokens["expires_in"], 600);
        assert_eq!(tokens["user"]["email"], person.email);
        let me = client.bearer(tokens["access_token"].as_str().unwrap()).get("/api/auth/me").await.json();
        assert_eq!(me["id"], person.id.to_string());
        assert_eq!(me["role"], "member");
        assert_eq!(me["mfa_verified"], true);
        assert_eq!(me["mfa_method"], "totp");
        assert!(me["mfa_verified_at"].as_str().unwrap().ends_with('Z'));
    }
}

on_both! {
    async fn unknown_account_and_wrong_password_get_the_same_response(db) {
        let app = TestApp::start(db).await;
        let client = app.anonymous();
        let unknown = client.post("/api/auth/login", json!({"email": "nobody@example.test", "password": "x"})).await;
        let wrong = client.post("/api/auth/login", json!({"email": "member@example.test", "password": "x"})).await;
        assert_eq!((unknown.status, unknown.body), (wrong.status, wrong.body));
        assert_eq!(wrong.status, 401);
        assert_eq!(wrong.headers["www-authenticate"], "Bearer");
    }
}

on_both! {
    async fn too_many_attempts_are_rate_limited(db) {
        let app = TestApp::start(db).await;
        let client = app.anonymous();
        let mut last = None;
        for _ in 0..30 {
            let answer = client.post("/api/auth/login", json!({"email": "member@example.test", "password": "x"})).await;
            if answer.status == 429 {
                last = Some(answer);
                break;
            }
        }
        let refused = last.expect("too many attempts are rate limited");
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
        refused.detail();
        assert!(!app.audit_entries("action=login_throttled").await.is_empty());
    }
}

on_both! {
    async fn a_code_works_once_also_concurrently(db) {
        let app = TestApp::start(db).await;
        let client = app.anonymous();
        let person = app.user("member").clone();
        let secret = person.totp.unwrap();
        let mut challenges = Vec::new();
        for _ in 0..2 {
            let first = client.post("/api/auth/login", json!({"email": person.email, "password": app.password})).await.json();
            challenges.push(first["mfa_token"].clone());
        }
        let code = app.fresh_code(&secret);
        let verify = |token: &Value| {
            let (client, body) = (client.clone(), json!({"mfa_token": token, "method": "totp", "code": code}));
            async move { client.post("/api/auth/mfa/verify", body).await }
        };
        let (a, b) = tokio::join!(verify(&challenges[0]), verify(&challenges[1]));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401], "{} {}", a.body, b.body);
        let loser = if a.status == 401 { a } else { b };
        assert_eq!(loser.detail(), "Invalid code");
        assert_eq!(app.audit_entries("action=mfa_verify&outcome=success&actor=member@example.test").await.len(), 1);
    }
}

on_both! {
    async fn enrolment_by_mfa_token(db) {
        let app = TestApp::start(db).await;
        let client = app.anonymous();
        let due = client.post("/api/auth/login", json!({"email": "newcomer@example.test", "password": app.password})).await.json();
        assert_eq!(due["enrollment_required"], true);
        assert_eq!(due["methods"], json!([]));
        let secret = client.post("/api/auth/mfa/totp/enroll", json!({"mfa_token": due["mfa_token"]})).await;
        assert_eq!(secret.status, 200, "{}", secret.body);
        let secret = secret.json();
        assert!(secret["qr_svg"].as_str().unwrap().contains("<svg"));
        assert!(secret["otpauth_url"].as_str().unwrap().starts_with("otpauth://totp/"));
        assert_eq!((&secret["digits"], &secret["period"]), (&json!(6), &json!(30)));
        let seed = SecretString::new(secret["secret"].as_str().unwrap().to_owned());
        let code = totp::code_at(&seed, totp::step_of(app.clock.now())).unwrap();
        let wrong = client.post("/api/auth/mfa/totp/confirm", json!({"mfa_token": due["mfa_token"], "code": "000000"})).await;
        assert_eq!(wrong.status, 401, "{}", wrong.body);
        let done = client.post("/api/auth/mfa/totp/confirm", json!({"mfa_token": due["mfa_token"], "code": code})).await;
        assert_eq!(done.status, 200, "{}", done.body);
        let done = done.json();
        assert_eq!(done["user"]["mfa_enrolled"], true);
        let me = client.bearer(done["access_token"].as_str().unwrap()).get("/api/auth/me").await.json();
        assert_eq!(me["mfa_verified"], true);
    }
}

on_both! {
    async fn refresh_rotates_and_reuse_ends_the_login(db) {
        let app = TestApp::start(db).await;
        let client = app.anonymous();
        let tokens = app.sign_in(&client, "member").await.json();
        let renewed = client.post("/api/auth/refresh", json!({"refresh_token": tokens["refresh_token"]})).await;
        assert_eq!(renewed.status, 200, "{}", renewed.body);
        let renewed = renewed.json();
        assert_ne!(renewed["refresh_token"], tokens["refresh_token"]);
        let me = |token: &Value| {
            let client = client.bearer(token.as_str().unwrap());
            async move { client.get("/api/auth/me").await.status }
        };
        assert_eq!(me(&renewed["access_token"]).await, 200);
        let reused = client.post("/api/auth/refresh", json!({"refresh_token": tokens["refresh_token"]})).await;
        assert_eq!(reused.status, 401);
        assert_eq!(me(&renewed["access_token"]).await, 401, "the login is over");
        assert_eq!(client.post("/api/auth/refresh", json!({"refresh_token": renewed["refresh_token"]})).await.status, 401);
        assert!(!app.audit_entries("action=refresh_reuse").await.is_empty());
    }
}

on_both! {
    async fn invalid_tokens_are_refused_and_audited(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let token = member.token();
        let parts: Vec<&str> = token.split('.').collect();
        let none = format!("{}.{}.", encode(&json!({"alg": "none", "typ": "JWT"})), parts[1]);
        let hmac = format!("{}.{}.{}", encode(&json!({"alg": "HS256", "typ": "JWT"})), parts[1], parts[2]);
        let mut claims: Value = serde_json::from_slice(&decode(parts[1])).unwrap();
        claims["role"] = json!("admin");
        let altered = format!("{}.{}.{}", parts[0], encode(&claims), parts[2]);
        let long = "x".repeat(20_000);
        for forged in [none.as_str(), &hmac, &altered, "x", "a.b.c", &long] {
            let answer = app.anonymous().bearer(forged).get("/api/auth/me").await;
            assert_eq!(answer.status, 401, "{} {}", forged.len(), answer.body);
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
        assert_eq!(app.anonymous().header("authorization", "Basic YTpi").get("/api/auth/me").await.status, 401);

        app.advance(Duration::from_secs(601));
        assert_eq!(member.get("/api/auth/me").await.status, 401, "expired");
        let refused = app.audit_entries("action=token_refused").await;
        let reasons: Vec<_> = refused.iter().map(|e| e["reason"].as_str().unwrap().to_owned()).collect();
        assert!(reasons.iter().any(|r| r == "expired"), "{reasons:?}");
        assert!(reasons.iter().filter(|r| *r == "forged").count() >= 6, "{reasons:?}");
        assert!(!refused.iter().any(|e| e.to_string().contains(parts[2])), "a token is in the log");
    }
}

on_both! {
    async fn sign_out_revokes_the_token_at_once(db) {
        let app = TestApp::start(db).await;
        let (one, two) = (app.signed_in("member").await, app.signed_in("member").await);
        assert_eq!(one.post("/api/auth/logout", json!({})).await.json()["message"], "Signed out");
        assert_eq!(one.get("/api/auth/me").await.status, 401);
        assert_eq!(two.get("/api/auth/me").await.status, 200, "another login goes on");
        let three = app.signed_in("member").await;
        assert_eq!(three.post("/api/auth/logout", json!({"everywhere": true})).await.status, 200);
        assert_eq!(two.get("/api/auth/me").await.status, 401, "everywhere means everywhere");
    }
}

on_both! {
    async fn a_disabled_user_is_signed_out(db) {
        let app = TestApp::start(db).await;
        let (admin, other) = (app.signed_in("admin").await, app.signed_in("other").await);
        let id = app.user("other").id;
        let disabled = admin.send(reqwest::Method::PATCH, &format!("/api/users/{id}"), Some(b"{\"disabled\":true}".to_vec())).await;
        assert_eq!(disabled.status, 200, "{}", disabled.body);
        assert_eq!(disabled.json()["disabled"], true);
        assert_eq!(other.get("/api/auth/me").await.status, 401);
        let again = app.anonymous().post("/api/auth/login", json!({"email": "other@example.test", "password": app.password})).await;
        assert_eq!(again.status, 401);
        let own = format!("/api/users/{}", app.user("admin").id);
        assert_eq!(admin.send(reqwest::Method::PATCH, &own, Some(b"{\"disabled\":true}".to_vec())).await.status, 409);
        assert_eq!(admin.send(reqwest::Method::PATCH, &own, Some(b"{\"role\":\"member\"}".to_vec())).await.status, 409);
    }
}

on_both! {
    async fn the_published_key_verifies_access_tokens(db) {
        use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
        let app = TestApp::start(db).await;
        let token = app.signed_in("member").await.token();
        let keys = app.anonymous().get("/.well-known/jwks.json").await.json();
        let header: Value = serde_json::from_slice(&decode(token.split('.').next().unwrap())).unwrap();
        assert_eq!(header["alg"], "EdDSA");
        let key = keys["keys"].as_array().unwrap().iter().find(|k| k["kid"] == header["kid"]).unwrap();
        assert_eq!((&key["kty"], &key["crv"]), (&json!("OKP"), &json!("Ed25519")));
        let public = VerifyingKey::from_bytes(&decode(key["x"].as_str().unwrap()).try_into().unwrap()).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        public.verify(signed.as_bytes(), &Signature::from_slice(&decode(signature)).unwrap()).unwrap();
    }
}

fn encode(value: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
}

on_both! {
    async fn users_list_and_end_their_own_logins(db) {
        let app = TestApp::start(db).await;
        let (here, there) = (app.signed_in("member").await, app.signed_in("member").await);
        let logins = here.get("/api/auth/logins").await.json();
        let logins = logins.as_array().unwrap();
        assert_eq!(logins.len(), 2, "{logins:?}");
        assert!(logins.iter().all(|l| l["active"] == true && l["mfa_verified"].is_boolean() && l["source_ip"] == "127.0.0.1"));
        assert_eq!(logins.iter().filter(|l| l["current"] == true).count(), 1);
        let other = logins.iter().find(|l| l["current"] == false).unwrap()["id"].as_str().unwrap();
        let end = format!("/api/auth/logins/{other}/sign-out");
        assert_eq!(app.signed_in("admin").await.post(&end, json!({})).await.status, 404, "not even an admin, this way");
        assert_eq!(there.get("/api/auth/me").await.status, 200);
        assert_eq!(here.post(&end, json!({})).await.status, 200);
        assert_eq!(there.get("/api/auth/me").await.status, 401);
        assert_eq!(here.get("/api/auth/me").await.status, 200);
        assert_eq!(here.post(&end, json!({})).await.status, 404, "it has ended already");
        let logins = here.get("/api/auth/logins").await.json();
        assert_eq!(logins.as_array().unwrap().iter().filter(|l| l["active"] == true).count(), 1);
        assert_eq!(app.audit_entries("action=logout&actor=member@example.test").await.len(), 1);
    }
}
