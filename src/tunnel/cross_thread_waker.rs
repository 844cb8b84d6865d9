//! Batches wakeups of tasks that run on another thread.
//!
//! Waking a task of another thread's runtime costs a system call and interrupts that thread. Each
//! thread that waits on streams has a [`WakeTask`]: the tunnel's owner hands it all wakers of a
//! round with one wakeup, and it wakes the tasks locally, which needs no system call
//! (docs/adr/0016).

use std::cell::RefCell;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Waker};
use std::thread::{self, ThreadId};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::domain::sync::lock;

thread_local! {
    static CURRENT: RefCell<Weak<ThreadWaker>> = const { RefCell::new(Weak::new()) };
}

/// The wake task of one thread, as seen from other threads.
#[derive(Debug)]
struct ThreadWaker {
    thread: ThreadId,
    /// Wakers to be woken by the wake task; `None` once its runtime has ended.
    pending: Mutex<Option<Vec<Waker>>>,
    notify: Notify,
}

impl ThreadWaker {
    /// The entry of the calling thread; `None` outside of a runtime.
    fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow_mut(|current| {
            if let Some(thread_waker) =
                current.upgrade().filter(|thread_waker| thread_waker.is_running())
            {
                return Some(thread_waker);
            }
            let runtime = Handle::try_current().ok()?;
            let thread_waker = Arc::new(Self {
                thread: thread::current().id(),
                pending: Mutex::new(Some(Vec::new())),
                notify: Notify::new(),
            });
            *current = Arc::downgrade(&thread_waker);
            runtime.spawn(WakeTask(Arc::clone(&thread_waker)).run());
            Some(thread_waker)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Waker>>> {
        lock(&self.pending)
    }

    fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    /// Wakes the tasks from their own thread, or directly once the wake task has ended.
    fn wake_all(&self, wakers: Vec<Waker>) {
        let mut pending = self.lock();
        if let Some(pending) = &mut *pending {
            pending.extend(wakers);
            self.notify.notify_one();
            return;
        }
        drop(pending);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Runs on the thread it wakes tasks of. When its runtime ends it is dropped and wakes what is
/// still pending.
struct WakeTask(Arc<ThreadWaker>);

impl WakeTask {
    async fn run(self) {
        loop {
            self.0.notify.notified().await;
            let wakers = self.0.lock().as_mut().map(take);
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

impl Drop for WakeTask {
    fn drop(&mut self) {
        let wakers = self.0.lock().take();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// A waker and the thread its task runs on.
#[derive(Debug)]
pub(super) struct RegisteredWaker {
    waker: Waker,
    thread_waker: Option<Arc<ThreadWaker>>,
}

impl RegisteredWaker {
    /// Registers the task of `cx`. `cross_thread`: it will be woken from another thread.
    pub(super) fn register(slot: &mut Option<Self>, cross_thread: bool, cx: &Context<'_>) {
        match slot {
            Some(known) if known.waker.will_wake(cx.waker()) => {}
            _ => {
                *slot = Some(Self {
                    waker: cx.waker().clone(),
                    thread_waker: cross_thread.then(ThreadWaker::current).flatten(),
                })
            }
        }
    }

    pub(super) fn wake(self) {
        self.waker.wake();
    }
}

/// Wakers to be woken together, grouped by thread.
#[derive(Debug, Default)]
pub(super) struct WakeBatcher(Vec<(Option<Arc<ThreadWaker>>, Vec<Waker>)>);

impl WakeBatcher {
    pub(super) fn add(&mut self, RegisteredWaker { waker, thread_waker }: RegisteredWaker) {
        let same = |known: &Option<Arc<ThreadWaker>>| {
            known.as_ref().map(Arc::as_ptr) == thread_waker.as_ref().map(Arc::as_ptr)
        };
        match self.0.iter_mut().find(|(known, _)| same(known)) {
            Some((_, wakers)) => wakers.push(waker),
            None => self.0.push((thread_waker, vec![waker])),
        }
    }

    pub(super) fn flush(self) {
        for (thread_waker, wakers) in self.0 {
            match thread_waker {
                Some(thread_waker)
                    if wakers.len() > 1 && thread_waker.thread != thread::current().id() =>
                {
                    thread_waker.wake_all(wakers)
                }
                _ => wakers.into_iter().for_each(Waker::wake),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::task::JoinHandle;

    type Slots = Arc<Vec<Mutex<Option<RegisteredWaker>>>>;

    /// Starts tasks that wait, each in a slot of its own. Returns the slots, the count of woken
    /// tasks, and the tasks.
    fn waiters(runtime: &Handle, many: usize) -> (Slots, Arc<AtomicUsize>, Vec<JoinHandle<()>>) {
        let slots: Slots = Arc::new((0..many).map(|_| Mutex::new(None)).collect());
        let count = Arc::<AtomicUsize>::default();
        let tasks = (0..many).map(|n| {
            let (slots, woken) = (Arc::clone(&slots), Arc::clone(&count));
            runtime.spawn(async move {
                let mut registered = false;
                poll_fn(|cx| {
                    if std::mem::replace(&mut registered, true) {
                        return Poll::Ready(());
                    }
                    RegisteredWaker::register(&mut slots[n].lock().unwrap(), true, cx);
                    Poll::Pending
                })
                .await;
                woken.fetch_add(1, Ordering::Relaxed);
            })
        });
        let tasks = tasks.collect();
        (slots, count, tasks)
    }

    fn all(slots: &[Mutex<Option<RegisteredWaker>>]) -> WakeBatcher {
        let mut wakes = WakeBatcher::default();
        for slot in slots {
            while slot.lock().unwrap().is_none() {
                thread::yield_now();
            }
            wakes.add(slot.lock().unwrap().take().unwrap());
        }
        wakes
    }

    #[test]
    fn one_flush_wakes_all_tasks_of_another_thread() {
        let (started, handle) = std::sync::mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let other = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            started.send(runtime.handle().clone()).unwrap();
            runtime.block_on(ended).unwrap_err();
        });
        let (slots, count, tasks) = waiters(&handle.recv().unwrap(), 20);
        let wakes = all(&slots);
        assert_eq!(wakes.0.len(), 1, "all are grouped under their thread");
        wakes.flush();
        let here = Builder::new_current_thread().enable_all().build().unwrap();
        here.block_on(async {
            for task in tasks {
                tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 20);
        drop(end);
        other.join().unwrap();
    }

    #[test]
    fn a_waker_of_a_runtime_that_ended_still_wakes() {
        let (own, gone) = (
            Builder::new_current_thread().build().unwrap(),
            Builder::new_current_thread().build().unwrap(),
        );
        let count = Arc::<AtomicUsize>::default();
        struct Count(Arc<AtomicUsize>);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let waker = Waker::from(Arc::new(Count(Arc::clone(&count))));
        let register = || {
            let mut slot = None;
            RegisteredWaker::register(&mut slot, true, &Context::from_waker(&waker));
            slot.unwrap()
        };
        let wake = |pending: Vec<RegisteredWaker>| {
            thread::spawn(move || {
                let mut wakes = WakeBatcher::default();
                pending.into_iter().for_each(|one| wakes.add(one));
                wakes.flush();
            })
            .join()
            .unwrap();
        };
        let (early, late) = gone
            .block_on(async { ([register(), register()].into(), [register(), register()].into()) });
        // The wake task has not run yet: dropping its runtime wakes what is pending.
        wake(early);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        drop(gone);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        wake(late);
        assert_eq!(count.load(Ordering::Relaxed), 4);
        // The next runtime of the thread gets a wake task of its own.
        let next = own.block_on(async { register() });
        assert!(next.thread_waker.is_some_and(|thread_waker| thread_waker.is_running()));
    }
}
