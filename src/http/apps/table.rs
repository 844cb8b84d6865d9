//! The applications that are open in this process, and the cookies that grant access to them.
//!
//! There is one [`App`] per session and login; each further entry adds a cookie to it. The table is
//! in memory only, like every stream: after a restart the viewer enters again. An application that
//! ended is kept for a while, so that holders of its cookie read why it ended.

use crate::broker::core::stream_registry::StreamAuthorization;
use crate::domain::session::EndReason;
use crate::domain::sync::lock;
use crate::domain::{LoginId, SessionId};
use crate::viewer::html5::App;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Most cookies per application: one per tab or window that entered. The oldest is removed.
const COOKIES_MAX: usize = 8;
/// How long an application that ended is kept.
const ENDED_RETENTION: Duration = Duration::from_secs(3600);
/// Most applications that ended and are kept.
const ENDED_MAX: usize = 4096;

/// SHA-256 of a cookie's value.
type Hash = [u8; 32];

/// Why an application can no longer be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum AppEnd {
    Session(EndReason),
    /// The login that opened it ended.
    SignedOut,
    /// It was not used for a while.
    Idle,
    /// It must be opened again: its policy changed, the gateway drains, or its stream was closed.
    Reopen,
}

impl AppEnd {
    /// Its code for the viewer.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Session(reason) => reason.as_str(),
            Self::SignedOut => "signed_out",
            Self::Idle => "idle",
            Self::Reopen => "reopen",
        }
    }
}

/// An application that was app.
pub(in crate::http) struct OpenApp {
    pub(in crate::http) app: Arc<App>,
    pub(in crate::http) authorization: watch::Receiver<StreamAuthorization>,
    idle: AtomicBool,
    cookies: Mutex<VecDeque<Hash>>,
    ended: Mutex<Option<Instant>>,
}

impl OpenApp {
    /// Why it ended; `None` while it can be used.
    pub(super) fn end(&self) -> Option<AppEnd> {
        let authorization = *self.authorization.borrow();
        match authorization {
            StreamAuthorization::SessionEnded(reason) => Some(AppEnd::Session(reason)),
            StreamAuthorization::SignedOut => Some(AppEnd::SignedOut),
            StreamAuthorization::PolicyChanged => Some(AppEnd::Reopen),
            StreamAuthorization::Valid if self.idle.load(Ordering::Relaxed) => Some(AppEnd::Idle),
            StreamAuthorization::Valid
                if self.app.end().is_some() || self.authorization.has_changed().is_err() =>
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

/// All applications that are open, or ended recently.
#[derive(Default)]
pub(in crate::http) struct AppTable {
    by_session: Mutex<HashMap<SessionId, Vec<Arc<OpenApp>>>>,
}

impl AppTable {
    /// The application of a session that a cookie's value grants access to.
    pub(super) fn find(&self, session: SessionId, value: &str) -> Option<Arc<OpenApp>> {
        let hash = hash(value);
        let table = lock(&self.by_session);
        table.get(&session)?.iter().rev().find(|app| app.accepts_cookie(&hash)).cloned()
    }

    /// Adds a cookie to the application that a login has open; false: it has none.
    pub(super) fn join(&self, session: SessionId, login: LoginId, value: &str) -> bool {
        let found = lock(&self.by_session)
            .get(&session)
            .and_then(|all| all.iter().find(|o| is_open_by(o, login)).cloned());
        let Some(app) = found else { return false };
        app.add_cookie(hash(value));
        true
    }

    /// Adds an application with its first cookie.
    pub(super) fn add(
        &self,
        session: SessionId,
        app: Arc<App>,
        authorization: watch::Receiver<StreamAuthorization>,
        value: &str,
    ) {
        let app = OpenApp {
            app,
            authorization,
            idle: AtomicBool::new(false),
            cookies: Mutex::new(VecDeque::from([hash(value)])),
            ended: Mutex::new(None),
        };
        lock(&self.by_session).entry(session).or_default().push(Arc::new(app));
    }

    /// Marks applications that were not used for `idle` as ended, and returns them; removes those that
    /// ended long ago.
    pub(super) fn sweep(&self, idle: Duration, now: Instant) -> Vec<Arc<App>> {
        let mut closed = Vec::new();
        let mut table = lock(&self.by_session);
        let mut ended = 0;
        for app in table.values().flatten() {
            if app.end().is_none() && now.saturating_duration_since(app.app.last_used()) >= idle {
                app.idle.store(true, Ordering::Relaxed);
                closed.push(Arc::clone(&app.app));
            }
            if app.end().is_some() {
                lock(&app.ended).get_or_insert(now);
                ended += 1;
            }
        }
        let retention = if ended > ENDED_MAX { Duration::ZERO } else { ENDED_RETENTION };
        table.retain(|_, all| {
            all.retain(|app| {
                lock(&app.ended).is_none_or(|at| now.saturating_duration_since(at) < retention)
            });
            !all.is_empty()
        });
        closed
    }
}

fn is_open_by(app: &OpenApp, login: LoginId) -> bool {
    app.app.login() == Some(login) && app.end().is_none()
}

fn hash(value: &str) -> Hash {
    Sha256::digest(value.as_bytes()).into()
}
