//! Helpers to run futures.

use crate::domain::{Error, Result};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use std::future::Future;

/// Maximum number of sessions completed, or hosts asked, concurrently.
const MAX_CONCURRENCY: usize = 16;

/// Runs a future to completion even if the caller is dropped. (Not an `async fn`, whose future would
/// hold all of the work.)
pub(in crate::broker) fn spawn_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let task = tokio::spawn(work);
    async move { task.await.map_err(Error::internal)? }
}

/// Runs futures with bounded concurrency.
pub(in crate::broker) async fn run_bounded<T>(work: Vec<BoxFuture<'static, T>>) -> Vec<T> {
    stream::iter(work).buffer_unordered(MAX_CONCURRENCY).collect().await
}
