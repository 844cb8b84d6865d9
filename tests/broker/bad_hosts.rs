//! One bad host is one bad host: nobody on another host waits for it.

use super::fixture::*;
use crate::support::fake_fleet::Plan;
use crate::support::wait::eventually;
use portcullis::broker::model::WorkspaceChange;
use portcullis::domain::session::{EndReason, State};
use portcullis::domain::user::Role;
use portcullis::domain::{HostId, SessionId};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Desktops that the bad host lists, of no session.
const ORPHANS: usize = 200;
/// Stops that a host may be asked for while a test runs. Asking for all [`ORPHANS`], or a second
/// round of a hundred, takes minutes of waiting for a host that does not answer.
const STOPS_MAX: usize = 100;

/// Sessions that end on a silent host; it takes half a minute to ask for all of them.
const ENDINGS: usize = 160;

/// The background jobs, until they are stopped.
struct Jobs {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Jobs {
    fn start(fixture: &BrokerFixture) -> Self {
        let (stop, stopped) = watch::channel(false);
        let broker = fixture.broker.clone();
        let task = tokio::spawn(async move { broker.lifecycle().maintain(stopped).await });
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

/// The fixture's host lists desktops of no session and answers no request to stop them.
async fn bad_host(fixture: &BrokerFixture) -> HostId {
    fixture.fleet.plan_stop_on(fixture.host, Plan::Hang);
    for _ in 0..ORPHANS {
        fixture.fleet.add_desktop(fixture.host, SessionId::new());
    }
    fixture.host
}

async fn stored_endpoint(fixture: &BrokerFixture, host: HostId) -> Option<std::net::SocketAddr> {
    fixture.store.read(move |tx| tx.host(host)).await.unwrap().unwrap().endpoint
}

on_both! {
    async fn a_host_that_stops_nothing_delays_nobody(db) {
        let fixture = BrokerFixture::new(&db).await;
        let good = fixture.add_host("host-2", 2).await;
        fixture.fleet.disconnect(fixture.host);
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let lost = fixture.launch(&ann, &ws).await;
        assert_eq!(lost.host_id, Some(good));
        fixture.clock.advance(Duration::from_secs(3600));
        let kept = fixture.launch(&bob, &ws).await;
        fixture.fleet.connect(fixture.host);
        let bad = bad_host(&fixture).await;
        let jobs = Jobs::start(&fixture);
        eventually("the bad host is asked", async || fixture.fleet.stops_asked(bad) > 0).await;

        // A desktop that ended elsewhere.
        fixture.fleet.lose_desktop(lost.id);
        fixture.wait_for_session(lost.id, |s| s.state == State::Closed(EndReason::HostLost)).await;
        assert!(fixture.fleet.stops_asked(bad) < STOPS_MAX, "a loss waited for {} stops", fixture.fleet.stops_asked(bad));
        // A session whose time is over.
        fixture.clock.advance(Duration::from_secs(12 * 3600));
        fixture.wait_for_session(kept.id, |s| s.state == State::Closed(EndReason::Expired)).await;
        assert!(fixture.fleet.stops_asked(bad) < STOPS_MAX, "an expiry waited for {} stops", fixture.fleet.stops_asked(bad));
        // A host that connects: where it is must survive the gateway.
        let third = fixture.add_host("host-3", 3).await;
        eventually("its endpoint is stored", async || stored_endpoint(&fixture, third).await.is_some()).await;
        assert!(fixture.fleet.stops_asked(bad) < STOPS_MAX, "an endpoint waited for {} stops", fixture.fleet.stops_asked(bad));
        jobs.end().await;
    }

    async fn endings_on_a_silent_host_delay_no_other(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ann = fixture.caller("ann", Role::Member).await;
        for n in 0..ENDINGS {
            let ws = fixture.workspace(&format!("ws-{n}"), WorkspaceChange::default()).await;
            fixture.launch(&ann, &ws).await;
        }
        fixture.fleet.plan_stop_on(fixture.host, Plan::Hang);
        fixture.clock.advance(Duration::from_secs(1));
        let good = fixture.add_host("host-2", 2).await;
        let ws = fixture.workspace("ws-good", WorkspaceChange::default()).await;
        let fine = fixture.launch(&ann, &ws).await;
        assert_eq!(fine.host_id, Some(good));
        let jobs = Jobs::start(&fixture);
        fixture.clock.advance(Duration::from_secs(12 * 3600));
        fixture.wait_for_session(fine.id, |s| s.state == State::Closed(EndReason::Expired)).await;
        let asked = fixture.fleet.stops_asked(fixture.host);
        assert!(asked < ENDINGS, "it waited for all {asked} of the silent host");
        jobs.end().await;
    }

    async fn a_restarted_agent_ends_its_sessions_in_words_that_say_so(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        for (uptime, reason) in [(5, EndReason::HostRestarted), (60, EndReason::HostLost)] {
            let session = fixture.launch(&ann, &ws).await;
            let mut stream = fixture.open_stream(&ann, session.id).await;
            fixture.clock.advance(Duration::from_secs(30));
            fixture.fleet.lose_desktop(session.id);
            fixture.fleet.set_uptime(fixture.host, Duration::from_secs(uptime));
            fixture.broker.lifecycle().reconcile_once().await.unwrap();
            assert_eq!(wait_revoked(&mut stream).await, session_ended(reason));
            assert_eq!(fixture.stored_session(session.id).await.state, State::Closed(reason));
        }
        fixture.assert_empty().await;
    }
}
