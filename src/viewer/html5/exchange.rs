//! One request to the application and its answer's head: sent once, or once again where that is safe.

use super::app::Shared;
use super::body::{Upload, io_error};
use super::fault::Fault;
use super::pool::{Sender, connect};
use super::record::Flow;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::{Request, Response, StatusCode};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

type Outcome = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

/// Asks over a connection of the pool, or a new one. `repeat` makes the same request again where it may be sent twice: it has no body, and asking
/// twice does no more than asking once.
pub(super) async fn exchange(
    shared: &Arc<Shared>,
    request: Request<Upload>,
    repeat: Option<impl FnOnce() -> Request<Upload>>,
    flow: &Flow,
) -> Result<(Response<Incoming>, Sender), Fault> {
    let Some(mut sender) = shared.pool().take(repeat.is_some()) else {
        return fresh(shared, request, flow).await;
    };
    let failed = match answer(shared, &mut sender, request, flow).await? {
        Ok(response) => return accept(response, sender),
        Err(failed) => failed,
    };
    drop(sender);
    again(shared, failed, repeat, flow).await
}

/// After a connection of the pool failed: it may have been closed before it was used.
async fn again(
    shared: &Arc<Shared>,
    mut failed: TrySendError<Request<Upload>>,
    repeat: Option<impl FnOnce() -> Request<Upload>>,
    flow: &Flow,
) -> Result<(Response<Incoming>, Sender), Fault> {
    if let Some(unsent) = failed.take_message() {
        return fresh(shared, unsent, flow).await;
    }
    let error = failed.into_error();
    let closed = error.is_closed() || error.is_canceled() || error.is_incomplete_message() || io_error(&error).is_some_and(is_hangup);
    match repeat {
        // Not a byte of an answer came: hyper tells a half head (parse error) from none.
        Some(repeat) if closed => fresh(shared, repeat(), flow).await,
        Some(_) | None => Err(fault(error)),
    }
}

async fn fresh(shared: &Arc<Shared>, request: Request<Upload>, flow: &Flow) -> Result<(Response<Incoming>, Sender), Fault> {
    let (response, sender) = alone(shared, request, flow).await?;
    accept(response, sender)
}

/// Asks over a connection of its own, which may become another protocol's.
pub(super) async fn alone(shared: &Arc<Shared>, request: Request<Upload>, flow: &Flow) -> Result<(Response<Incoming>, Sender), Fault> {
    let mut sender = connect(shared).await?;
    match answer(shared, &mut sender, request, flow).await? {
        Ok(response) => Ok((response, sender)),
        Err(failed) => Err(fault(failed.into_error())),
    }
}

/// A protocol that nobody asked to change to (RFC 9110 section 15.2.2) is not spoken.
fn accept(response: Response<Incoming>, sender: Sender) -> Result<(Response<Incoming>, Sender), Fault> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Fault::Garbled("it changes to a protocol that nobody asked for".into()));
    }
    Ok((response, sender))
}

/// Waits for the head of the answer, as long as the request moves, and not much longer.
async fn answer(shared: &Shared, sender: &mut Sender, request: Request<Upload>, flow: &Flow) -> Result<Outcome, Fault> {
    let patience = shared.limits().head;
    let Sender { asks, timer, .. } = sender;
    let mut sent = pin!(asks.try_send_request(request));
    let began = Instant::now();
    loop {
        tokio::select! {
            biased;
            outcome = &mut sent => return Ok(outcome),
            () = timer.as_mut() => {
                let until = flow.moved_at().max(began) + patience;
                if until > Instant::now() {
                    timer.as_mut().reset(until.into());
                } else if flow.is_streaming() {
                    return Err(Fault::BrowserSlow);
                } else {
                    return Err(Fault::Slow);
                }
            }
        }
    }
}

fn is_hangup(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn fault(error: hyper::Error) -> Fault {
    if io_error(&error).is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
        return Fault::Slow;
    }
    if error.is_parse() { Fault::Garbled(Box::new(error)) } else { Fault::HungUp(error) }
}
