//! Handlers: what users write, and how it ends.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use bus::order::WorkKind;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;

use crate::context::Context;

/// What a handler may leave with its run's history. `()` leaves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output(pub(crate) Option<String>);

impl Output {
    /// A value as JSON, kept like a text. One that JSON can't say is left out, and said so.
    pub fn json(value: &impl serde::Serialize) -> Self {
        Self(Some(
            serde_json::to_string(value)
                .unwrap_or_else(|error| format!("failed to write the result: {error}")),
        ))
    }

    /// A text, kept up to `OUTPUT_BYTES_MAX` bytes of it: the beginning and the end.
    pub fn text(text: impl Into<String>) -> Self {
        Self(Some(text.into()))
    }
}

impl From<()> for Output {
    fn from((): ()) -> Self {
        Self(None)
    }
}

/// How a handler fails. Any error becomes one by `?` and means "try again as the retry policy says"; `permanent` and
/// `retry_after` say otherwise.
///
/// ```
/// use ecron_executor_sdk::HandlerError;
/// fn read(text: &str) -> Result<u32, HandlerError> {
///     Ok(text.parse().map_err(HandlerError::permanent)?)
/// }
/// assert!(read("seven").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    pub(crate) verdict: FailureKind,
    pub(crate) message: String,
    pub(crate) output: Option<String>,
}

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Another attempt as the policy says.
    Retryable,
    /// Another attempt after this delay, which the policy doesn't count.
    RetryAfter(Duration),
    /// No other attempt.
    Permanent,
    /// No other attempt: the payload isn't what the handler takes.
    Undecodable,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl HandlerError {
    /// Trying again can't help: the run becomes a dead letter at once.
    pub fn permanent(error: impl Into<AnyError>) -> Self {
        Self::of(FailureKind::Permanent, error)
    }

    /// A rate limit turned it away: try again after this delay (at most `RETRY_DELAY_MAX`), without counting this attempt
    /// towards the policy's. After `RATE_LIMITED_MAX` such attempts they do count.
    pub fn retry_after(delay: Duration, error: impl Into<AnyError>) -> Self {
        Self::of(FailureKind::RetryAfter(delay), error)
    }

    /// The same failure, leaving a text with the run's history like [`Output::text`].
    #[must_use]
    pub fn with_output(self, text: impl Into<String>) -> Self {
        Self { output: Some(text.into()), ..self }
    }

    /// What went wrong, with its causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn undecodable(error: impl Into<AnyError>) -> Self {
        Self::of(FailureKind::Undecodable, error)
    }

    fn of(verdict: FailureKind, error: impl Into<AnyError>) -> Self {
        Self { verdict, message: with_causes(&*error.into()), output: None }
    }
}

/// Anything that can be boxed as an error: errors, texts, `anyhow::Error`.
impl<E: Into<AnyError>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::of(FailureKind::Retryable, error)
    }
}

fn with_causes(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors repeat their cause in their own text.
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

/// A handler as the executor calls it.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(&self, ctx: Context, payload: Bytes) -> BoxFuture<'static, Result<Output, HandlerError>>;
}

/// A function over a payload that serde reads from JSON.
pub(crate) struct Typed<F, P>(pub(crate) F, pub(crate) PhantomData<fn() -> P>);
/// A function over a payload's bytes.
pub(crate) struct Raw<F>(pub(crate) F);
/// A function over any kind of work, commands and requests included.
pub(crate) struct AnyWork<F>(pub(crate) F);

impl<F, P, Fut, O, E> Handler for Typed<F, P>
where
    F: Fn(Context, P) -> Fut + Send + Sync + 'static,
    P: DeserializeOwned + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    O: Into<Output> + 'static,
    E: Into<HandlerError> + 'static,
{
    fn handle(&self, ctx: Context, payload: Bytes) -> BoxFuture<'static, Result<Output, HandlerError>> {
        match payload_only(&ctx).and_then(|()| decode::<P>(&payload)) {
            Ok(value) => finish((self.0)(ctx, value)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

impl<F, Fut, O, E> Handler for Raw<F>
where
    F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    O: Into<Output> + 'static,
    E: Into<HandlerError> + 'static,
{
    fn handle(&self, ctx: Context, payload: Bytes) -> BoxFuture<'static, Result<Output, HandlerError>> {
        match payload_only(&ctx) {
            Ok(()) => finish((self.0)(ctx, payload)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

impl<F, Fut, O, E> Handler for AnyWork<F>
where
    F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    O: Into<Output> + 'static,
    E: Into<HandlerError> + 'static,
{
    fn handle(&self, ctx: Context, payload: Bytes) -> BoxFuture<'static, Result<Output, HandlerError>> {
        finish((self.0)(ctx, payload))
    }
}

fn finish<O, E>(
    future: impl Future<Output = Result<O, E>> + Send + 'static,
) -> BoxFuture<'static, Result<Output, HandlerError>>
where
    O: Into<Output> + 'static,
    E: Into<HandlerError> + 'static,
{
    Box::pin(async move { future.await.map(Into::into).map_err(Into::into) })
}

/// A user's handler doesn't get to see commands and requests: they would look like payloads of a strange shape.
fn payload_only(ctx: &Context) -> Result<(), HandlerError> {
    let what = match ctx.kind() {
        WorkKind::Payload => return Ok(()),
        WorkKind::Exec => "a command",
        WorkKind::Http => "a request",
    };
    Err(HandlerError::permanent(format!(
        "the job holds {what} for the built-in executor, but its queue {} is served by a handler of payloads",
        ctx.queue()
    )))
}

/// An empty body reads as `null`, so that a handler of `()` or `Option` takes it.
fn decode<P: DeserializeOwned>(payload: &Bytes) -> Result<P, HandlerError> {
    let text: &[u8] = if payload.is_empty() { b"null" } else { payload };
    serde_json::from_slice(text).map_err(|error| {
        HandlerError::undecodable(format!("read the payload as {}: {error}", std::any::type_name::<P>()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("save the report")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn errors_tell_their_causes() {
        let error: HandlerError = Outer(std::io::Error::other("disk on fire")).into();
        assert_eq!(error.message(), "save the report: disk on fire");
        assert_eq!(error.verdict, FailureKind::Retryable);
    }

    #[test]
    fn texts_are_errors_too() {
        let error: HandlerError = "no stock".into();
        assert_eq!(error.message(), "no stock");
        let error = HandlerError::retry_after(Duration::from_secs(3), "busy").with_output("log");
        assert_eq!(
            (error.verdict, error.output),
            (FailureKind::RetryAfter(Duration::from_secs(3)), Some("log".into()))
        );
    }

    #[test]
    fn an_empty_body_is_null() {
        assert!(decode::<()>(&Bytes::new()).is_ok());
        assert_eq!(decode::<Option<u8>>(&Bytes::new()).unwrap(), None);
        let error = decode::<u8>(&Bytes::from_static(b"{}")).unwrap_err();
        assert_eq!(error.verdict, FailureKind::Undecodable);
        assert!(error.message().starts_with("read the payload as u8: invalid type: map"), "{error:?}");
    }
}
