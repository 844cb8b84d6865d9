//! Database calls that do not end until they are told: what searches and listings are to whoever
//! waits behind them.

use super::wait::eventually;
use portcullis::domain::Result;
use portcullis::store::{Connections, SearchTx, Store, Tx};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use tokio::task::JoinHandle;

/// More calls than either database has connections for.
const CALLS: usize = 40;

#[derive(Default)]
struct Gate {
    entered: AtomicUsize,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        self.entered.fetch_add(1, Ordering::SeqCst);
        let mut is_open = self.is_open.lock().unwrap();
        while !*is_open {
            is_open = self.opened.wait(is_open).unwrap();
        }
    }
}

/// Every connection that searches and listings may use is in use until this is dropped.
pub struct Occupied {
    gate: Arc<Gate>,
    calls: Vec<JoinHandle<Result<()>>>,
}

impl Occupied {
    pub async fn searches_and_listings(store: &Store) -> Self {
        let gate = Arc::new(Gate::default());
        let mut calls = Vec::new();
        for n in 0..CALLS {
            let (store, gate) = (store.clone(), gate.clone());
            calls.push(tokio::spawn(async move {
                if n % 2 == 0 {
                    let wait = move |_: &mut SearchTx<'_, '_>| {
                        gate.pass();
                        Ok(())
                    };
                    store.search(wait).await
                } else {
                    let wait = move |_: &mut Tx<'_>| {
                        gate.pass();
                        Ok(())
                    };
                    store.list(wait).await
                }
            }));
        }
        let shares = Connections::default();
        let all = (shares.search + shares.listing) as usize;
        eventually("the connections are in use", async || {
            gate.entered.load(Ordering::SeqCst) >= all
        })
        .await;
        Self { gate, calls }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        *self.gate.is_open.lock().unwrap() = true;
        self.gate.opened.notify_all();
        for call in &self.calls {
            call.abort();
        }
    }
}
