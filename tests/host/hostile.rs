//! Agents that answer as ours never would.

use super::gateway_harness::{gateway_state, order, start_gateway, wait_until_connected};
use super::harness::TIMEOUT;
use super::scripted_agent::{Script, connect};
use portcullis::broker::ports::host_fleet::HostFleet;
use portcullis::fleet::CHANGES_MIN_INTERVAL;
use portcullis::host::control::Refusal;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_never_end_are_asked_for_at_a_least_interval() {
    const QUESTIONS: u32 = 6;
    let mut state = gateway_state();
    let gateway = start_gateway(&mut state).await;
    let script = Arc::new(Script::default());
    let mut asked = script.changes.subscribe();
    let _hub = connect(&mut state, &gateway, script).await;
    let many = asked.wait_for(|seen| seen.is_some_and(|(_, count)| count >= QUESTIONS));
    let (began, count) = tokio::time::timeout(TIMEOUT, many).await.unwrap().unwrap().unwrap();
    let least = CHANGES_MIN_INTERVAL * (count - 1);
    // Measured at the agent, which hears of a question later than it was asked: the first may be
    // late.
    let took = began.elapsed() + CHANGES_MIN_INTERVAL;
    assert!(took >= least, "{count} questions in {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_whose_failure_it_is() {
    let mut state = gateway_state();
    let gateway = start_gateway(&mut state).await;
    let script = Arc::new(Script::default());
    let _hub = connect(&mut state, &gateway, script.clone()).await;
    wait_until_connected(&gateway, state.host.id).await;
    for (refusal, hosts_own) in [
        (Refusal::Failed("no space left on device".to_owned()), true),
        (Refusal::Full("no place".to_owned()), true),
        (Refusal::Invalid("a name is too long".to_owned()), false),
    ] {
        *script.refusal.lock().unwrap() = Some(refusal.clone());
        let (order, _) = order(Duration::from_secs(1));
        let error = gateway.fleet.start(Some(state.host.id), order).await.unwrap_err();
        assert_eq!(error.is_hosts_own(), hosts_own, "{refusal:?}: {error}");
        assert!(error.to_string().contains(&refusal.to_string()), "{error}");
    }
}
