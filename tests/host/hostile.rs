//! Agents that answer as ours never would.

use super::gateway_harness::{gateway_state, start_gateway};
use super::harness::TIMEOUT;
use super::scripted_agent::{Script, connect};
use portcullis::fleet::CHANGES_MIN_INTERVAL;
use std::sync::Arc;

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
