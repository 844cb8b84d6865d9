//! The use cases: sign in, launch, disconnect, stop, expire, administer. Each is one decision, one
//! transaction.
//!
//! | folder | contents |
//! | --- | --- |
//! | [`ports`] | traits that others implement: the hosts and their tunnels |
//! | [`model`] | what use cases take and return |
//! | [`core`] | unit of work, audit entries, stream registry, teardown, validation |
//! | `identity` | passwords, one-time codes, tokens, users, organizations |
//! | `catalog` | workspaces, and where each can run |
//! | [`targets`] | credentials and certificates of upstreams, requests to web applications |
//! | `hosts` | enrolment of agents, standard WireGuard peers |
//! | `audit` | query, export and verification of the log |
//! | `sessions` | launch, streams, listing, end |
//! | `jobs` | start and stop, reconciler, change watcher, health |
//!
//! `ports, model < core < catalog, identity, targets, hosts, audit < sessions < jobs`.
//!
//! A use case decides (a permit), changes and audits in one transaction, and only then acts: revokes
//! streams, drops keys, calls hosts. What no disconnect may interrupt runs in a task of its own.

pub mod audit;
pub mod catalog;
pub mod core;
pub mod hosts;
pub mod identity;
pub mod jobs;
pub mod model;
pub mod ports;
pub mod sessions;
pub mod targets;

use self::core::changes::Changes;
use self::core::hash_queue::HashQueue;
use self::core::host_failures::HostFailures;
use self::core::log_search::SearchSlots;
use self::core::sealing::Sealer;
use self::core::session_tracker::SessionTracker;
pub use self::core::settings::Settings;
use self::core::signing_keys::SigningKeys;
use self::core::stream_registry::StreamRegistry;
use self::core::teardown::Teardown;
use self::core::unit_of_work::AuditedStore;
use crate::auth::{GuessLimiter, Vault};
use crate::domain::{Clock, Timestamp};
use crate::store::Store;
use audit::query::AuditLog;
use catalog::fleet_snapshot::Placements;
use catalog::workspaces::Workspaces;
use hosts::enroll::Hosts;
use hosts::gateway_identity::GatewayIdentityStore;
use hosts::peers::Peers;
use identity::code_attempts::CodeAttempts;
use identity::known_browsers::KnownBrowsers;
use identity::organizations::Organizations;
use identity::password::Passwords;
use identity::tokens::Logins;
use identity::totp::Totp;
use identity::users::Users;
use jobs::change_feed::ChangeFeed;
use jobs::change_watcher::ChangeWatcher;
use jobs::health::Health;
use jobs::host_checks::HostChecks;
use jobs::host_observations::ReconcilerState;
use jobs::lifecycle::Lifecycle;
use jobs::purge::Purge;
use jobs::reconciler::Reconciler;
use ports::host_fleet::HostFleet;
use sessions::launch::Launcher;
use sessions::launch_attempt::DesktopStarter;
use sessions::list::Sessions;
use sessions::open_stream::Streams;
use sessions::view::SessionViews;
use std::sync::Arc;
use targets::certificates::Certificates;
use targets::credentials::Credentials;
use targets::stream_events::StreamEvents;
use targets::web_requests::WebRequests;

/// The use cases, by noun. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    nouns: Arc<Nouns>,
}

struct Nouns {
    store: AuditedStore,
    change_feed: ChangeFeed,
    passwords: Passwords,
    totp: Totp,
    logins: Logins,
    users: Users,
    organizations: Organizations,
    workspaces: Workspaces,
    credentials: Credentials,
    certificates: Certificates,
    stream_events: StreamEvents,
    web_requests: WebRequests,
    hosts: Hosts,
    peers: Peers,
    audit: AuditLog,
    launcher: Launcher,
    sessions: Sessions,
    streams: Streams,
    lifecycle: Lifecycle,
    health: Health,
}

impl Broker {
    /// Runs nothing until [`Lifecycle::start`].
    #[must_use]
    #[allow(clippy::too_many_lines)]
    pub fn new(
        store: Store,
        vault: Vault,
        fleet: Arc<dyn HostFleet>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let settings = Arc::new(settings);
        let (changes, streams) = (Changes::default(), StreamRegistry::default());
        let tracker = SessionTracker::new(settings.session_times);
        let store = AuditedStore::new(store, clock, changes.clone(), settings.limits.refusals);
        let sealer = Sealer::new(vault.clone());
        let keys = SigningKeys::new(store.clone(), sealer.clone());
        let hash_queue = HashQueue::new(settings.limits.waiting_sign_ins);
        let passwords = Arc::new(GuessLimiter::new(settings.limits.passwords));
        let browsers = KnownBrowsers {
            store: store.clone(),
            sealer: sealer.clone(),
            settings: settings.clone(),
        };
        let code_attempts = CodeAttempts {
            store: store.clone(),
            browsers: browsers.clone(),
            passwords: passwords.clone(),
            codes: Arc::new(GuessLimiter::new(settings.limits.codes)),
            enrolments: Arc::new(GuessLimiter::new(settings.limits.passwords)),
        };
        let teardown = Teardown {
            store: store.clone(),
            fleet: fleet.clone(),
            streams: streams.clone(),
            tracker: tracker.clone(),
            changes: changes.clone(),
        };
        let failures = HostFailures::default();
        let placements = Placements {
            store: store.clone(),
            fleet: fleet.clone(),
            web_applications: settings.web_applications,
            failures: failures.clone(),
        };
        let identity = GatewayIdentityStore { store: store.clone(), fleet: fleet.clone() };
        let slots = SearchSlots::new(settings.limits.searches);
        let audit = AuditLog { store: store.clone(), slots: slots.clone() };
        let credentials =
            Credentials { store: store.clone(), sealer: sealer.clone(), ephemeral: Arc::default() };
        let views = SessionViews {
            fleet: fleet.clone(),
            streams: streams.clone(),
            tracker: tracker.clone(),
        };
        let checks = HostChecks {
            store: store.clone(),
            fleet: fleet.clone(),
            tracker: tracker.clone(),
            changes: changes.clone(),
            teardown: teardown.clone(),
            settings: settings.clone(),
            state: Arc::new(ReconcilerState::new(store.now())),
        };
        let reconciler = Reconciler {
            store: store.clone(),
            sealer: sealer.clone(),
            fleet: fleet.clone(),
            ephemeral: credentials.ephemeral.clone(),
            checks,
        };
        let change_watcher = ChangeWatcher {
            store: store.clone(),
            fleet: fleet.clone(),
            streams: streams.clone(),
            tracker: tracker.clone(),
            changes: changes.clone(),
            teardown: teardown.clone(),
        };
        let nouns = Nouns {
            passwords: Passwords {
                store: store.clone(),
                keys: keys.clone(),
                settings: settings.clone(),
                limiter: passwords,
                browsers,
                hash_queue: hash_queue.clone(),
            },
            totp: Totp {
                store: store.clone(),
                sealer: sealer.clone(),
                keys: keys.clone(),
                settings: settings.clone(),
                attempts: code_attempts.clone(),
            },
            logins: Logins {
                store: store.clone(),
                keys: keys.clone(),
                settings: settings.clone(),
                streams: streams.clone(),
                teardown: teardown.clone(),
            },
            users: Users {
                store: store.clone(),
                hash_queue,
                code_attempts,
                teardown: teardown.clone(),
            },
            organizations: Organizations { store: store.clone() },
            workspaces: Workspaces {
                store: store.clone(),
                sealer: sealer.clone(),
                placements: placements.clone(),
                streams: streams.clone(),
                changes: changes.clone(),
                teardown: teardown.clone(),
            },
            certificates: Certificates {
                store: store.clone(),
                streams: streams.clone(),
                changes: changes.clone(),
            },
            stream_events: StreamEvents { store: store.clone() },
            web_requests: WebRequests { store: store.clone(), keys: keys.clone(), slots },
            hosts: Hosts {
                store: store.clone(),
                sealer: sealer.clone(),
                fleet: fleet.clone(),
                identity: identity.clone(),
                changes: changes.clone(),
                teardown: teardown.clone(),
                tracker: tracker.clone(),
                failures: failures.clone(),
            },
            peers: Peers {
                store: store.clone(),
                sealer: sealer.clone(),
                fleet: fleet.clone(),
                identity: identity.clone(),
                changes: changes.clone(),
                session_network: settings.session_network,
                local_endpoints: settings.local_endpoints,
            },
            launcher: Launcher {
                store: store.clone(),
                placements,
                views: views.clone(),
                tracker: tracker.clone(),
                teardown: teardown.clone(),
                settings: settings.clone(),
                starter: DesktopStarter {
                    store: store.clone(),
                    sealer: sealer.clone(),
                    fleet: fleet.clone(),
                    views: views.clone(),
                    changes: changes.clone(),
                    tracker: tracker.clone(),
                    teardown: teardown.clone(),
                    failures,
                    settings: settings.clone(),
                },
            },
            sessions: Sessions { store: store.clone(), views, teardown },
            streams: Streams {
                store: store.clone(),
                fleet: fleet.clone(),
                streams: streams.clone(),
                tracker: tracker.clone(),
                credentials: credentials.clone(),
                settings,
            },
            lifecycle: Lifecycle {
                store: store.clone(),
                sealer,
                keys,
                fleet: fleet.clone(),
                identity,
                streams: streams.clone(),
                tracker: tracker.clone(),
                reconciler,
                change_watcher,
                purge: Purge { store: store.clone() },
            },
            health: Health { store: store.clone(), fleet, streams, tracker },
            audit,
            credentials,
            change_feed: ChangeFeed { store: store.clone(), changes },
            store,
        };
        Self { nouns: Arc::new(nouns) }
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.nouns.store.now()
    }

    #[must_use]
    pub fn change_feed(&self) -> &ChangeFeed {
        &self.nouns.change_feed
    }

    #[must_use]
    pub fn passwords(&self) -> &Passwords {
        &self.nouns.passwords
    }

    #[must_use]
    pub fn totp(&self) -> &Totp {
        &self.nouns.totp
    }

    #[must_use]
    pub fn logins(&self) -> &Logins {
        &self.nouns.logins
    }

    #[must_use]
    pub fn users(&self) -> &Users {
        &self.nouns.users
    }

    #[must_use]
    pub fn organizations(&self) -> &Organizations {
        &self.nouns.organizations
    }

    #[must_use]
    pub fn workspaces(&self) -> &Workspaces {
        &self.nouns.workspaces
    }

    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.nouns.credentials
    }

    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.nouns.certificates
    }

    #[must_use]
    pub fn stream_events(&self) -> &StreamEvents {
        &self.nouns.stream_events
    }

    #[must_use]
    pub fn web_requests(&self) -> &WebRequests {
        &self.nouns.web_requests
    }

    #[must_use]
    pub fn hosts(&self) -> &Hosts {
        &self.nouns.hosts
    }

    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.nouns.peers
    }

    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.nouns.audit
    }

    #[must_use]
    pub fn launcher(&self) -> &Launcher {
        &self.nouns.launcher
    }

    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.nouns.sessions
    }

    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.nouns.streams
    }

    #[must_use]
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.nouns.lifecycle
    }

    #[must_use]
    pub fn health(&self) -> &Health {
        &self.nouns.health
    }
}
