//! Which applications are open in this process, and whose cookies open them.
//!
//! One [`App`] per session and login: who enters again gets one more cookie to it. In memory alone,
//! like every stream: after a restart the viewer enters anew. One that ended is remembered for a
//! while, so that whoever held its cookie reads why.

use super::App;
use crate::broker::core::stream_registry::StreamAuthorization;
use crate::domain::session::EndReason;
use crate::domain::sync::lock;
use crate::domain::{LoginId, SessionId};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Cookies to one application: so many tabs and windows may have entered by themselves. The oldest
/// goes.
const COOKIES_MAX: usize = 8;
/// How long one that ended is remembered.
const ENDED_RETENTION: Duration = Duration::from_secs(3600);
/// How many that ended are remembered.
const ENDED_MAX: usize = 4096;

/// What is kept of a cookie's value.
type Hash = [u8; 32];

/// Why an application can no longer be used by who holds a cookie to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum AppEnd {
    /// The session ended.
    Session(EndReason),
    /// The login that opened it ended.
    SignedOut,
    /// It was not used for long.
    Idle,
    /// It must be opened anew: its rules were changed, the gateway goes, or its stream was closed.
    Reopen,
}

impl AppEnd {
    /// Its word for the viewer.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Session(reason) => reason.as_str(),
            Self::SignedOut => "signed_out",
            Self::Idle => "idle",
            Self::Reopen => "reopen",
        }
    }
}

/// An application somebody opened.
pub(in crate::http) struct OpenApp {
    pub(in crate::http) app: Arc<App>,
    /// The right it was opened under.
    pub(in crate::http) right: watch::Receiver<StreamAuthorization>,
    idle: AtomicBool,
    cookies: Mutex<VecDeque<Hash>>,
    ended: Mutex<Option<Instant>>,
}

impl OpenApp {
    /// Why it ended; `None` while it can be used.
    pub(super) fn end(&self) -> Option<AppEnd> {
        let right = *self.right.borrow();
        match right {
            StreamAuthorization::SessionEnded(reason) => Some(AppEnd::Session(reason)),
            StreamAuthorization::SignedOut => Some(AppEnd::SignedOut),
            StreamAuthorization::PolicyChanged => Some(AppEnd::Reopen),
            StreamAuthorization::Valid if self.idle.load(Ordering::Relaxed) => Some(AppEnd::Idle),
            StreamAuthorization::Valid
                if self.app.end().is_some() || self.right.has_changed().is_err() =>
            {
                Some(AppEnd::Reopen)
            }
            StreamAuthorization::Valid => None,
        }
    }

    fn accepts_cookie(&self, hash: &Hash) -> bool {
        lock(&self.cookies).contains(hash)
    }

    fn add_cookie(&self, hash: Hash) {
        let mut cookies = lock(&self.cookies);
        if cookies.len() >= COOKIES_MAX {
            cookies.pop_front();
        }
        cookies.push_back(hash);
    }
}

/// All of them.
#[derive(Default)]
pub(in crate::http) struct AppTable {
    by_session: Mutex<HashMap<SessionId, Vec<Arc<OpenApp>>>>,
}

impl AppTable {
    /// The application of this session that one of these cookie values opens.
    pub(super) fn find<'a>(
        &self,
        session: SessionId,
        values: impl Iterator<Item = &'a str>,
    ) -> Option<Arc<OpenApp>> {
        let hashes: Vec<Hash> = values.take(COOKIES_MAX).map(hash).collect();
        let table = lock(&self.by_session);
        table
            .get(&session)?
            .iter()
            .rev()
            .find(|opened| hashes.iter().any(|hash| opened.accepts_cookie(hash)))
            .cloned()
    }

    /// Lets a cookie open the application that this login has open; false when it has none.
    pub(super) fn join(&self, session: SessionId, login: LoginId, value: &str) -> bool {
        let found = lock(&self.by_session)
            .get(&session)
            .and_then(|all| all.iter().find(|o| is_open_by(o, login)).cloned());
        let Some(opened) = found else { return false };
        opened.add_cookie(hash(value));
        true
    }

    /// Adds one, with its first cookie.
    pub(super) fn add(
        &self,
        session: SessionId,
        app: Arc<App>,
        right: watch::Receiver<StreamAuthorization>,
        value: &str,
    ) {
        let opened = OpenApp {
            app,
            right,
            idle: AtomicBool::new(false),
            cookies: Mutex::new(VecDeque::from([hash(value)])),
            ended: Mutex::new(None),
        };
        lock(&self.by_session).entry(session).or_default().push(Arc::new(opened));
    }

    /// Closes what was not used for `idle`, and forgets what ended long ago. Asked now and then.
    pub(super) fn sweep(&self, idle: Duration, now: Instant) -> Vec<Arc<App>> {
        let mut closed = Vec::new();
        let mut table = lock(&self.by_session);
        let mut ended = 0;
        for opened in table.values().flatten() {
            if opened.end().is_none()
                && now.saturating_duration_since(opened.app.last_used()) >= idle
            {
                opened.idle.store(true, Ordering::Relaxed);
                closed.push(Arc::clone(&opened.app));
            }
            if opened.end().is_some() {
                lock(&opened.ended).get_or_insert(now);
                ended += 1;
            }
        }
        let kept = if ended > ENDED_MAX { Duration::ZERO } else { ENDED_RETENTION };
        table.retain(|_, all| {
            all.retain(|opened| {
                lock(&opened.ended).is_none_or(|at| now.saturating_duration_since(at) < kept)
            });
            !all.is_empty()
        });
        closed
    }
}

fn is_open_by(opened: &OpenApp, login: LoginId) -> bool {
    opened.app.login() == login && opened.end().is_none()
}

fn hash(value: &str) -> Hash {
    Sha256::digest(value.as_bytes()).into()
}
