//! Answers of a gate, on their way to the loop that may send them. Bounded, and never waited at: a
//! side that takes none of its answers is cut.

use crate::domain::sync::lock;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::Notify;

/// Bytes of answers that may wait. Answers are small and rare; so many are only asked for by
/// someone who does not read.
const MAX_BYTES: usize = 64 * 1024;

/// A queue of answers.
#[derive(Debug, Default)]
pub(super) struct InjectedReplies {
    queue: Mutex<Queue>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    replies: VecDeque<Bytes>,
    bytes: usize,
}

impl InjectedReplies {
    /// Puts an answer behind the others; false when too many wait.
    pub(super) fn push(&self, answer: Bytes) -> bool {
        let mut queue = lock(&self.queue);
        if queue.bytes + answer.len() > MAX_BYTES {
            return false;
        }
        queue.bytes += answer.len();
        queue.replies.push_back(answer);
        drop(queue);
        self.pushed.notify_one();
        true
    }

    /// The next answer. Cancel safe.
    pub(super) async fn next(&self) -> Bytes {
        loop {
            if let Some(answer) = self.pop() {
                return answer;
            }
            self.pushed.notified().await;
        }
    }

    fn pop(&self) -> Option<Bytes> {
        let mut queue = lock(&self.queue);
        let answer = queue.replies.pop_front()?;
        queue.bytes -= answer.len();
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_come_in_order_and_are_bounded() {
        let backlog = InjectedReplies::default();
        assert!(backlog.push(Bytes::from_static(b"one")));
        assert!(backlog.push(Bytes::from(vec![0; MAX_BYTES - 3])));
        assert!(!backlog.push(Bytes::from_static(b"x")), "the queue is full");
        assert_eq!(backlog.next().await, "one");
        assert!(backlog.push(Bytes::from_static(b"two")), "and has room again");
        assert_eq!(backlog.next().await.len(), MAX_BYTES - 3);
        assert_eq!(backlog.next().await, "two");
    }
}
