//! Queue of replies that a filter sends to the side it reads from. Bounded and never waited for:
//! the stream ends when a side does not read its replies.

use crate::domain::sync::lock;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::Notify;

/// Bytes that may be queued. Replies are small and rare; only a peer that requests without reading
/// fills the queue.
const MAX_BYTES: usize = 64 * 1024;

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
    /// Appends a reply; false when the queue is full.
    pub(super) fn push(&self, reply: Bytes) -> bool {
        let mut queue = lock(&self.queue);
        if queue.bytes + reply.len() > MAX_BYTES {
            return false;
        }
        queue.bytes += reply.len();
        queue.replies.push_back(reply);
        drop(queue);
        self.pushed.notify_one();
        true
    }

    /// The next reply. Cancel safe.
    pub(super) async fn next(&self) -> Bytes {
        loop {
            if let Some(reply) = self.pop() {
                return reply;
            }
            self.pushed.notified().await;
        }
    }

    fn pop(&self) -> Option<Bytes> {
        let mut queue = lock(&self.queue);
        let reply = queue.replies.pop_front()?;
        queue.bytes -= reply.len();
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replies_come_in_order_and_are_bounded() {
        let replies = InjectedReplies::default();
        assert!(replies.push(Bytes::from_static(b"one")));
        assert!(replies.push(Bytes::from(vec![0; MAX_BYTES - 3])));
        assert!(!replies.push(Bytes::from_static(b"x")), "the queue is full");
        assert_eq!(replies.next().await, "one");
        assert!(replies.push(Bytes::from_static(b"two")), "and has room again");
        assert_eq!(replies.next().await.len(), MAX_BYTES - 3);
        assert_eq!(replies.next().await, "two");
    }
}
