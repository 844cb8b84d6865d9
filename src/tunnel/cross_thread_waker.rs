//! Wakes for other threads, many at a time.
//!
//! To wake a task of another thread's runtime takes a system call, and takes that thread from what
//! it does. A round that has something for twenty of its tasks would do that twenty times. A
//! **bell** is a task on that thread: it is rung once, and wakes the others there, where it costs
//! next to nothing.

use crate::domain::sync::lock;
use std::cell::RefCell;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Waker};
use std::thread::{self, ThreadId};

use tokio::runtime::Handle;
use tokio::sync::Notify;

thread_local! {
    static CURRENT: RefCell<Weak<ThreadWaker>> = const { RefCell::new(Weak::new()) };
}

/// The bell of one thread.
#[derive(Debug)]
struct ThreadWaker {
    thread: ThreadId,
    /// Who is to be woken; `None` when its runtime has ended, and nobody will hear it.
    pending: Mutex<Option<Vec<Waker>>>,
    notify: Notify,
}

impl ThreadWaker {
    /// That of this thread; `None` outside of any runtime.
    fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow_mut(|here| {
            if let Some(bell) = here.upgrade().filter(|bell| bell.is_running()) {
                return Some(bell);
            }
            let runtime = Handle::try_current().ok()?;
            let bell = Arc::new(Self {
                thread: thread::current().id(),
                pending: Mutex::new(Some(Vec::new())),
                notify: Notify::new(),
            });
            *here = Arc::downgrade(&bell);
            runtime.spawn(WakeTask(Arc::clone(&bell)).run());
            Some(bell)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Waker>>> {
        lock(&self.pending)
    }

    fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    /// Wakes them, from its own thread if that is still there.
    fn wake_all(&self, wakers: Vec<Waker>) {
        let mut waiting = self.lock();
        if let Some(waiting) = &mut *waiting {
            waiting.extend(wakers);
            self.notify.notify_one();
            return;
        }
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The bell's task. When its runtime ends, so does this: whoever is still to be woken is woken
/// then.
struct WakeTask(Arc<ThreadWaker>);

impl WakeTask {
    async fn run(self) {
        loop {
            self.0.notify.notified().await;
            let woken = self.0.lock().as_mut().map(take);
            woken.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

impl Drop for WakeTask {
    fn drop(&mut self) {
        let left = self.0.lock().take();
        left.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Who waits, and the bell of the thread it waits on.
#[derive(Debug)]
pub(super) struct RegisteredWaker {
    waker: Waker,
    thread_waker: Option<Arc<ThreadWaker>>,
}

impl RegisteredWaker {
    /// Notes that whoever asks in `cx` waits; to be woken from other threads, if those are `apart`.
    pub(super) fn register(slot: &mut Option<Self>, apart: bool, cx: &Context<'_>) {
        match slot {
            Some(known) if known.waker.will_wake(cx.waker()) => {}
            _ => {
                *slot = Some(Self {
                    waker: cx.waker().clone(),
                    thread_waker: apart.then(ThreadWaker::current).flatten(),
                })
            }
        }
    }

    /// Wakes it at once.
    pub(super) fn wake(self) {
        self.waker.wake();
    }
}

/// Those that are to be woken together, by their bells.
#[derive(Debug, Default)]
pub(super) struct WakeBatcher(Vec<(Option<Arc<ThreadWaker>>, Vec<Waker>)>);

impl WakeBatcher {
    /// Adds one.
    pub(super) fn add(&mut self, RegisteredWaker { waker, thread_waker: bell }: RegisteredWaker) {
        let same = |known: &Option<Arc<ThreadWaker>>| {
            known.as_ref().map(Arc::as_ptr) == bell.as_ref().map(Arc::as_ptr)
        };
        match self.0.iter_mut().find(|(known, _)| same(known)) {
            Some((_, wakers)) => wakers.push(waker),
            None => self.0.push((bell, vec![waker])),
        }
    }

    /// Wakes them all.
    pub(super) fn flush(self) {
        for (bell, wakers) in self.0 {
            match bell {
                Some(bell) if wakers.len() > 1 && bell.thread != thread::current().id() => {
                    bell.wake_all(wakers)
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

    /// Tasks that wait, each in a slot of its own, and how many were woken.
    fn waiters(runtime: &Handle, many: usize) -> (Slots, Arc<AtomicUsize>, Vec<JoinHandle<()>>) {
        let slots: Slots = Arc::new((0..many).map(|_| Mutex::new(None)).collect());
        let woken = Arc::<AtomicUsize>::default();
        let tasks = (0..many).map(|n| {
            let (slots, woken) = (Arc::clone(&slots), Arc::clone(&woken));
            runtime.spawn(async move {
                let mut asked = false;
                poll_fn(|cx| {
                    if std::mem::replace(&mut asked, true) {
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
        (slots, woken, tasks)
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
    fn one_ring_wakes_all_tasks_of_another_thread() {
        let (begun, handle) = std::sync::mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let other = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            begun.send(runtime.handle().clone()).unwrap();
            runtime.block_on(ended).unwrap_err();
        });
        let (slots, woken, tasks) = waiters(&handle.recv().unwrap(), 20);
        let wakes = all(&slots);
        assert_eq!(wakes.0.len(), 1, "all have the bell of their thread");
        wakes.flush();
        let here = Builder::new_current_thread().enable_all().build().unwrap();
        here.block_on(async {
            for task in tasks {
                tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap();
            }
        });
        assert_eq!(woken.load(Ordering::Relaxed), 20);
        drop(end);
        other.join().unwrap();
    }

    #[test]
    fn who_waits_by_the_bell_of_a_runtime_that_ended_is_woken_all_the_same() {
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
        let note = || {
            let mut slot = None;
            RegisteredWaker::register(&mut slot, true, &Context::from_waker(&waker));
            slot.unwrap()
        };
        let wake = |waiting: Vec<RegisteredWaker>| {
            thread::spawn(move || {
                let mut wakes = WakeBatcher::default();
                waiting.into_iter().for_each(|one| wakes.add(one));
                wakes.flush();
            })
            .join()
            .unwrap();
        };
        let (early, late) =
            gone.block_on(async { ([note(), note()].into(), [note(), note()].into()) });
        // Rung, though nobody has run to hear it: its end lets everybody out.
        wake(early);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        drop(gone);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        wake(late);
        assert_eq!(count.load(Ordering::Relaxed), 4);
        // And the thread has a new bell in its next runtime.
        let next = own.block_on(async { note() });
        assert!(next.thread_waker.is_some_and(|bell| bell.is_running()));
    }
}
