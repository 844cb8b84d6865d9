//! The lease of the gateway: of two that want it one gets it, and only its holder renews it.

use super::*;
use portcullis::store::GatewayLeaseRow;

fn row(holder: &str) -> GatewayLeaseRow {
    GatewayLeaseRow {
        holder: holder.to_owned(),
        holder_name: format!("https://{holder}.example"),
        lock_id: format!("lock of {holder}"),
        acquired_at: NOW.0,
        heartbeat_at: NOW.0,
        heartbeats: 0,
    }
}

on_both! {
    async fn only_the_holder_renews_and_releases(db) {
        let store = &db.store;
        assert_eq!(store.read(|tx| tx.gateway_lease()).await.unwrap(), None);
        assert!(store.write(|tx| tx.insert_gateway_lease(&row("a"))).await.unwrap());
        assert!(!store.write(|tx| tx.insert_gateway_lease(&row("b"))).await.unwrap());
        assert!(store.renew_gateway_lease("a", later(2)).await.unwrap());
        assert!(!store.renew_gateway_lease("b", later(2)).await.unwrap());
        let renewed = GatewayLeaseRow { heartbeats: 1, heartbeat_at: later(2).0, ..row("a") };
        assert_eq!(store.read(|tx| tx.gateway_lease()).await.unwrap(), Some(renewed));
        store.write(|tx| tx.release_gateway_lease("b")).await.unwrap();
        assert!(store.renew_gateway_lease("a", later(4)).await.unwrap(), "b released nothing");
        store.write(|tx| tx.release_gateway_lease("a")).await.unwrap();
        assert!(!store.renew_gateway_lease("a", later(6)).await.unwrap());
        assert!(store.write(|tx| tx.insert_gateway_lease(&row("b"))).await.unwrap());
    }

    async fn a_lease_that_was_renewed_meanwhile_is_not_taken_over(db) {
        let store = &db.store;
        store.write(|tx| tx.insert_gateway_lease(&row("a"))).await.unwrap();
        assert!(store.renew_gateway_lease("a", later(2)).await.unwrap());
        assert!(!store.write(|tx| tx.replace_gateway_lease(&row("a"), &row("b"))).await.unwrap());
        let seen = store.read(|tx| tx.gateway_lease()).await.unwrap().unwrap();
        let take = |by: &'static str| {
            let seen = seen.clone();
            store.write(move |tx| tx.replace_gateway_lease(&seen, &row(by)))
        };
        let taken = tokio::join!(take("b"), take("c"));
        let (b, c) = (taken.0.unwrap(), taken.1.unwrap());
        assert!(b ^ c, "one of them has it: {b} {c}");
        assert!(!store.renew_gateway_lease("a", later(4)).await.unwrap());
        assert!(store.renew_gateway_lease(if b { "b" } else { "c" }, later(4)).await.unwrap());
    }
}
