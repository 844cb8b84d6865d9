//! Every state with every event, and random sequences of events.

use super::*;
use proptest::prelude::*;

fn states() -> Vec<State> {
    let mut states = vec![State::Queued, State::Creating, State::Active];
    states.extend(EndReason::ALL.map(State::Closing));
    states.extend(EndReason::ALL.map(State::Closed));
    states
}

fn events() -> Vec<Event> {
    let mut events = vec![Event::Admit, Event::Ready, Event::Extend(Timestamp(9)), Event::Release];
    events.extend(EndReason::ALL.map(Event::Close));
    events
}

/// The transition table, written a second time and independently of `apply`.
fn expected(state: &str, event: &str) -> Option<&'static str> {
    [
        ("queued", "admit", "creating"),
        ("creating", "ready", "active"),
        ("queued", "close", "closing"),
        ("creating", "close", "closing"),
        ("active", "extend", "active"),
        ("active", "close", "closing"),
        ("closing", "release", "closed"),
    ]
    .into_iter()
    .find(|(from, on, _)| *from == state && *on == event)
    .map(|(_, _, to)| to)
}

fn name(event: Event) -> &'static str {
    match event {
        Event::Admit => "admit",
        Event::Ready => "ready",
        Event::Extend(_) => "extend",
        Event::Close(_) => "close",
        Event::Release => "release",
    }
}

#[test]
fn every_state_with_every_event() {
    let mut pairs = 0;
    for state in states() {
        for event in events() {
            pairs += 1;
            match (apply(state, event), expected(state.as_str(), name(event))) {
                (Ok(next), Some(to)) => {
                    assert_eq!(next.as_str(), to, "{state:?} {event:?}");
                    let reason = match event {
                        Event::Close(reason) => Some(reason),
                        _ => state.end_reason(),
                    };
                    assert_eq!(next.end_reason(), reason, "{state:?} {event:?}");
                }
                (Err(illegal), None) => assert_eq!(illegal, IllegalTransition { state, event }),
                (got, want) => panic!("{state:?} {event:?}: {got:?}, not {want:?}"),
            }
        }
    }
    let reasons = EndReason::ALL.len();
    assert_eq!(
        pairs,
        (3 + 2 * reasons) * (4 + reasons),
        "three states and four events carry no reason; two states and one event carry each"
    );
}

#[test]
fn names_round_trip() {
    for state in states() {
        assert_eq!(State::parse(state.as_str(), state.end_reason()), Some(state));
        // A state and the reason of another kind contradict each other.
        let other = if state.end_reason().is_some() { None } else { Some(EndReason::Expired) };
        assert_eq!(State::parse(state.as_str(), other), None);
    }
    assert_eq!(State::parse("nonsense", None), None);
    for reason in EndReason::ALL {
        assert_eq!(EndReason::parse(reason.as_str()), Some(reason));
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}

fn session() -> Session {
    Session {
        id: SessionId::new(),
        organization_id: OrganizationId::new(),
        principal: PrincipalId::User(UserId::new()),
        principal_name: "ann@example.com".to_owned(),
        login_id: Some(LoginId::new()),
        workspace_id: WorkspaceId::parse("ws").unwrap(),
        workspace_name: "Desk".to_owned(),
        workspace_kind: WorkspaceKind::Linux,
        host_id: Some(HostId::new()),
        route: Default::default(),
        state: State::Queued,
        address: [10, 64, 0, 2].into(),
        mfa: None,
        peer_public_key: None,
        created_at: Timestamp(1_000),
        started_at: None,
        ended_at: None,
        expires_at: Timestamp(100_000),
        version: 1,
    }
}

#[test]
fn times_of_a_session() {
    let queued = session();
    let creating = queued.apply(Event::Admit, Timestamp(2_000)).unwrap();
    let active = creating.apply(Event::Ready, Timestamp(3_000)).unwrap();
    assert_eq!((active.started_at, active.version), (Some(Timestamp(3_000)), 3));
    assert_eq!(active.duration(Timestamp(8_000)), Duration::from_secs(5));
    let extended = active.apply(Event::Extend(Timestamp(200_000)), Timestamp(8_500)).unwrap();
    assert_eq!((extended.expires_at, extended.version), (Timestamp(200_000), 4));
    assert_eq!(extended.started_at, active.started_at, "it is the same use");
    let shorter = extended.apply(Event::Extend(Timestamp(9_000)), Timestamp(8_600)).unwrap();
    assert_eq!(shorter.expires_at, Timestamp(200_000), "an extension never shortens");
    let closing = active.apply(Event::Close(EndReason::Expired), Timestamp(9_000)).unwrap();
    let closed = closing.apply(Event::Release, Timestamp(10_000)).unwrap();
    assert_eq!((closed.ended_at, closed.version), (Some(Timestamp(10_000)), 5));
    assert_eq!(closed.duration(Timestamp(99_000)), Duration::from_secs(7));
    // The clock went back: it does not end before it began.
    assert_eq!(
        closing.apply(Event::Release, Timestamp(1)).unwrap().ended_at,
        Some(Timestamp(3_000))
    );
    assert!(!queued.is_expired(Timestamp(99_999)) && queued.is_expired(Timestamp(100_000)));
    assert_eq!(queued.duration(Timestamp(5_000)), Duration::ZERO);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop::sample::select(events())
}

proptest! {
    #[test]
    fn random_event_sequences(tries in prop::collection::vec((any_event(), 0i64..1000), 0..40)) {
        let mut now = Timestamp(1_000);
        let mut session = session();
        let first = session.clone();
        let mut rank = 0;
        for (event, step) in tries {
            now.0 += step;
            let Ok(next) = session.apply(event, now) else { continue };
            // Ranks never decrease, and only an extension keeps it.
            let next_rank = ["queued", "creating", "active", "closing", "closed"].iter().position(|w| *w == next.state.as_str()).unwrap();
            let extended = matches!(event, Event::Extend(_));
            prop_assert!(if extended { next_rank == rank } else { next_rank > rank }, "{:?} -> {:?}", session.state, next.state);
            prop_assert!(next.expires_at >= session.expires_at);
            rank = next_rank;
            // Every change increments the version.
            prop_assert_eq!(next.version, session.version + 1);
            // The first reason stays.
            if let Some(reason) = session.state.end_reason() {
                prop_assert_eq!(next.state.end_reason(), Some(reason));
            }
            // It has an end exactly when it is closed, and a start only if it was active.
            prop_assert_eq!(next.ended_at.is_some(), !next.state.is_live());
            if next.state == State::Active { prop_assert_eq!(next.started_at, if extended { session.started_at } else { Some(now) }); }
            if let (Some(from), Some(to)) = (next.started_at, next.ended_at) { prop_assert!(from <= to); }
            // Principal, workspace and host never change.
            prop_assert_eq!((next.id, next.principal, next.login_id, next.host_id, next.address), (first.id, first.principal, first.login_id, first.host_id, first.address));
            session = next;
        }
        // It can be closed and released from every live state.
        if session.state.is_live() {
            let closing = session.apply(Event::Close(EndReason::HostLost), now).unwrap_or(session);
            let over = closing.apply(Event::Release, now).unwrap();
            prop_assert!(!over.state.is_live());
            for event in events() { prop_assert!(over.apply(event, now).is_err()); }
        }
    }
}
