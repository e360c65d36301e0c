//! The handler at work: in a task of its own, with a deadline, and with an end whatever it does.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use bytes::Bytes;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::handler::{Handler, HandlerError, Output};

/// How long a handler may go on after it was cancelled; then it is aborted at its next `await`.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// How long an aborted handler may take to reach that `await`. One that blocks its thread can't be ended from outside.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// How a handler came to its end.
#[derive(Debug, PartialEq)]
pub(crate) enum HandlerEnd {
    Returned(Result<Output, HandlerError>),
    Panicked(String),
    TimedOut {
        output: Option<String>,
    },
    /// The run was cancelled before the handler was done.
    Cancelled {
        output: Option<String>,
    },
    /// The executor stopped before the handler was done.
    Interrupted {
        output: Option<String>,
    },
}

/// What a handler returned; `None` if it wasn't started.
type Done = Option<Result<Output, HandlerError>>;
type Returned = Result<Done, JoinError>;

/// When a handler must have been started, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// On the monotonic clock: whoever comes later doesn't start it.
    pub(crate) lapses_at: Duration,
    pub(crate) timeout: Duration,
}

/// Why a handler is told to stop.
enum Cause {
    Deadline,
    Cancelled,
    Drained,
}

/// Runs a handler until it ends, its timeout is over, or `cancelled` or `drained` fires; then cancels, and in the end
/// aborts it. `None`: it wasn't started in time.
pub(crate) async fn run(
    handler: Arc<dyn Handler>,
    ctx: &Context,
    payload: Bytes,
    bounds: Bounds,
    clock: &Clock,
    cancelled: &CancellationToken,
    drained: &CancellationToken,
) -> Option<HandlerEnd> {
    let deadline = clock.sleep(bounds.timeout);
    let mut task = {
        let (ctx, clock) = (ctx.clone(), clock.clone());
        // The call itself is inside the task, so that a panic in it is caught as well.
        tokio::spawn(async move {
            // A busy executor may take a while to get here.
            if clock.monotonic() >= bounds.lapses_at {
                return None;
            }
            Some(handler.handle(ctx, payload).await)
        })
    };
    let cause = match ended(&mut task, deadline, cancelled.cancelled(), drained.cancelled()).await {
        Ended::Handler(returned) => return by_itself(returned),
        Ended::Told(cause) => cause,
    };
    ctx.cancellation().cancel();
    match stopping(&mut task, ctx, clock).await {
        // `Ok` is the handler's word that the run is carried out. After the deadline it comes too late.
        Some(Ok(Some(Ok(output)))) if !matches!(cause, Cause::Deadline) => {
            Some(HandlerEnd::Returned(Ok(output)))
        }
        returned => Some(cut_off(cause, returned)),
    }
}

/// Waits for a cancelled handler, then aborts it. `None` if it had to be aborted.
async fn stopping(task: &mut JoinHandle<Done>, ctx: &Context, clock: &Clock) -> Option<Returned> {
    if let Ended::Handler(returned) = ended(task, clock.sleep(CANCEL_GRACE), pending(), pending()).await {
        return Some(returned);
    }
    task.abort();
    if !matches!(ended(task, clock.sleep(ABORT_WAIT), pending(), pending()).await, Ended::Handler(_)) {
        tracing::error!(run_id = %ctx.run_id(), "a cancelled handler blocks its thread and can't be aborted");
    }
    None
}

enum Ended {
    Handler(Returned),
    Told(Cause),
}

async fn ended(
    task: &mut JoinHandle<Done>,
    deadline: impl Future<Output = ()>,
    cancelled: impl Future<Output = ()>,
    drained: impl Future<Output = ()>,
) -> Ended {
    tokio::select! {
        biased;
        returned = task => Ended::Handler(returned),
        () = cancelled => Ended::Told(Cause::Cancelled),
        () = deadline => Ended::Told(Cause::Deadline),
        () = drained => Ended::Told(Cause::Drained),
    }
}

fn by_itself(returned: Returned) -> Option<HandlerEnd> {
    match returned {
        Ok(result) => result.map(HandlerEnd::Returned),
        Err(error) if error.is_panic() => Some(HandlerEnd::Panicked(panic_text(error))),
        // Nobody but us aborts the task, so the runtime is going down.
        Err(_) => Some(HandlerEnd::Interrupted { output: None }),
    }
}

fn cut_off(cause: Cause, returned: Option<Returned>) -> HandlerEnd {
    let output = match returned {
        Some(Ok(Some(Ok(Output(output)) | Err(HandlerError { output, .. })))) => output,
        Some(Ok(None) | Err(_)) | None => None,
    };
    match cause {
        Cause::Deadline => HandlerEnd::TimedOut { output },
        Cause::Cancelled => HandlerEnd::Cancelled { output },
        Cause::Drained => HandlerEnd::Interrupted { output },
    }
}

fn panic_text(error: JoinError) -> String {
    let payload = match error.try_into_panic() {
        Ok(payload) => payload,
        Err(error) => return error.to_string(),
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            payload.downcast::<&str>().map_or_else(|_| "no message".into(), |text| (*text).into())
        }
    }
}
