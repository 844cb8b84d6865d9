//! Following a host: a host that falls silent, and a desktop that ends, are noticed without anybody asking.

use super::{ASK_TIMEOUT, Inner, told};
use crate::broker::fleet::FleetError;
use crate::domain::HostId;
use crate::host::control;
use crate::tunnel::{Tunnel, TunnelStatus};
use std::sync::Weak;
use std::time::Duration;

/// Waits between two tries to follow a host.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Follows a host for as long as there is the fleet and its tunnel: says when its tunnel changes, and asks its agent for changes.
pub(super) async fn follow(fleet: Weak<Inner>, host: HostId, tunnel: Tunnel) {
    let mut status = tunnel.watch();
    let (mut wait, longest) = RETRY;
    loop {
        let before = *status.borrow_and_update();
        let interrupted = tokio::select! {
            () = tunnel.closed() => break,
            changed = status.wait_for(|now| *now != before) => changed.is_err(),
            error = ask_for_changes(&fleet, host), if before == TunnelStatus::Encrypted => {
                tracing::debug!(%host, %error, "following a host was interrupted");
                true
            }
        };
        let Some(fleet) = fleet.upgrade() else { return };
        if interrupted {
            drop(fleet);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        } else {
            if *status.borrow() == TunnelStatus::Encrypted {
                fleet.revive(host);
            }
            fleet.bump();
            wait = RETRY.0;
        }
    }
    if let Some(fleet) = fleet.upgrade() {
        fleet.bump();
    }
}

/// Asks an agent for changes, over and over; each answer also says that the host is alive. Ends with why it could not go on.
async fn ask_for_changes(fleet: &Weak<Inner>, host: HostId) -> FleetError {
    let asking = async {
        let inner = fleet.upgrade().ok_or(FleetError::NotConnected)?;
        let mut client = tokio::time::timeout(ASK_TIMEOUT, inner.client(host)).await.map_err(|_| FleetError::Timeout)??;
        drop(inner);
        let mut seen = None;
        loop {
            let limit = control::WATCH_WAIT + ASK_TIMEOUT;
            let now = tokio::time::timeout(limit, client.changed(seen)).await.map_err(|_| FleetError::Timeout)?.map_err(told)?;
            if seen.replace(now) != Some(now) {
                fleet.upgrade().ok_or(FleetError::NotConnected)?.bump();
            }
        }
    };
    let ended: Result<std::convert::Infallible, FleetError> = asking.await;
    match ended {
        Err(error) => error,
        Ok(never) => match never {},
    }
}
