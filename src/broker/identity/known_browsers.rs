//! Browsers that have signed in to an account before: a sealed cookie, as in OWASP's "Slow Down
//! Online Guessing Attacks with Device Cookies". It authenticates nobody; its browser has its own
//! allowance of wrong passwords and codes, which nobody else can use up (docs/adr/0024).
//!
//! An entry is bound to its account and to the account's password: a new password ends it, as
//! disabling the account does. A cookie has entries for the accounts that last used the browser.

use crate::auth::{BrowserId, random_bytes};
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::settings::Settings;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::model::KnownBrowserCookie;
use crate::domain::secret::SecretString;
use crate::domain::{Result, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Accounts that one browser is known to.
const ENTRIES_MAX: usize = 4;
/// Longest cookie that is opened, in bytes.
const COOKIE_MAX: usize = 2048;

#[derive(Clone, Serialize, Deserialize)]
struct KnownBrowser {
    user: UserId,
    /// Random, so that each sign-in has a bucket of its own.
    id: BrowserId,
    expires_at: i64,
    password: [u8; 16],
}

#[derive(Clone)]
pub(in crate::broker) struct KnownBrowsers {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) settings: Arc<Settings>,
}

impl KnownBrowsers {
    /// The browser, if the cookie is for this account with its present password. Without a cookie
    /// of this gateway nothing is looked up.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::broker) async fn find(
        &self,
        cookie: Option<&SecretString>,
        email: &str,
    ) -> Result<Option<BrowserId>> {
        let entries = self.entries(cookie, self.store.now());
        if entries.is_empty() {
            return Ok(None);
        }
        let email = email.to_owned();
        let account = self.store.read(move |tx| tx.user_by_email(&email)).await?;
        let Some((user, hash)) = account.filter(|(user, _)| !user.disabled) else {
            return Ok(None);
        };
        let password = password_tag(&hash);
        let entry = entries.into_iter().find(|e| e.user == user.id && e.password == password);
        Ok(entry.map(|entry| entry.id))
    }

    /// The cookie after a sign-in: the other accounts of the presented one are kept.
    pub(in crate::broker) fn issue(
        &self,
        cookie: Option<&SecretString>,
        user: UserId,
        password_hash: &str,
    ) -> KnownBrowserCookie {
        let now = self.store.now();
        let entry = KnownBrowser {
            user,
            id: random_bytes(),
            expires_at: now.after(self.settings.limits.known_browser_ttl).0,
            password: password_tag(password_hash),
        };
        let others = self.entries(cookie, now).into_iter().filter(|other| other.user != user);
        let entries: Vec<_> = std::iter::once(entry).chain(others).take(ENTRIES_MAX).collect();
        let plain = serde_json::to_vec(&entries)
            .expect("INVARIANT: ids and numbers are serialized without errors");
        let value = SecretString::new(self.sealer.seal(SealingPurpose::KnownBrowser, &plain));
        KnownBrowserCookie { value, expires_in: self.settings.limits.known_browser_ttl }
    }

    /// The entries that have not expired; none when it is not a cookie of this gateway.
    fn entries(&self, cookie: Option<&SecretString>, now: Timestamp) -> Vec<KnownBrowser> {
        let Some(cookie) = cookie.filter(|c| c.expose().len() <= COOKIE_MAX) else {
            return Vec::new();
        };
        let entries: Vec<KnownBrowser> = self
            .sealer
            .unseal(SealingPurpose::KnownBrowser, cookie.expose())
            .ok()
            .and_then(|plain| serde_json::from_slice(plain.expose()).ok())
            .unwrap_or_default();
        entries.into_iter().filter(|entry| now.0 < entry.expires_at).collect()
    }
}

/// Changes with the password; says nothing about it, since the stored hash is salted.
fn password_tag(hash: &str) -> [u8; 16] {
    let mut tag = [0; 16];
    tag.copy_from_slice(&Sha256::digest(hash)[..16]);
    tag
}
