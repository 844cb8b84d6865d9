//! How a stream reaches its desktop.

use crate::domain::lease::Lease;
use futures_util::future::BoxFuture;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Opens connections to desktops. It takes a lease only: a target cannot be named in another way.
pub trait Dial: Send + Sync + 'static {
    fn dial<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>>;
}
