//! Attaching a browser to its desktop: lease, handshake, relay, cut.
//!
//! Placeholder until the branch `viewer` is merged; that one wins.

use crate::broker::Broker;
use crate::broker::live::StreamGrant;
use crate::domain::lease::Lease;
use crate::domain::user::Origin;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Dials a leased desktop.
pub trait Dial: Send + Sync + 'static {
    /// Dials.
    fn dial(&self, lease: &Lease) -> BoxFuture<'static, std::io::Result<tokio::io::DuplexStream>>;
}

/// What serving needs.
#[derive(Clone)]
pub struct Context {
    /// Use cases.
    pub broker: Broker,
    /// Dialler.
    pub dial: Arc<dyn Dial>,
}

/// Serves one stream until it ends.
pub async fn serve(ctx: Context, origin: Origin, grant: StreamGrant, session: actix_ws::Session, messages: actix_ws::MessageStream) {
    drop((session, messages));
    let _ = ctx.broker.close_stream(&origin, grant, "not_implemented").await;
}
