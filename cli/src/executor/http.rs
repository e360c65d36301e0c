//! Requests: what a job's `http` sends, and how the answer reads.
//!
//! A request goes wherever this executor's network goes, with the network's rights but no credentials of ours: no
//! cookies, nothing from the environment but a proxy. Whoever may apply jobs can therefore reach what the executor can
//! reach. Rules for that are the network's business for now; run the executor where it may see no more than it should.

use std::error::Error;
use std::io;
use std::time::Duration;

use executor_sdk::{Context, Excerpt, HandlerError, Output};
use model::limits::{OUTPUT_BYTES_MAX, RETRY_DELAY_MAX};
use model::spec::HttpSpec;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: usize = 3;

/// The client behind all requests.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    client: Client,
}

impl Requests {
    pub(super) fn new() -> anyhow::Result<Self> {
        // The first one in the process wins, and any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
            .user_agent(concat!("ecron/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client })
    }

    /// Sends a job's request and judges the answer.
    pub(super) async fn send(&self, ctx: &Context, spec: &HttpSpec) -> Result<Output, HandlerError> {
        let request = self.request(ctx, spec)?;
        match ctx.cancellation().run_until_cancelled(exchange(request)).await {
            Some(answered) => judge(spec, answered?),
            None => Err(format!("no complete answer from {} in time", spec.url).into()),
        }
    }

    fn request(&self, ctx: &Context, spec: &HttpSpec) -> Result<reqwest::RequestBuilder, HandlerError> {
        let method = Method::from_bytes(spec.method.as_bytes())
            .map_err(|_| HandlerError::permanent(format!("{:?} isn't an HTTP method", spec.method)))?;
        let url = Url::parse(&spec.url).map_err(|error| {
            HandlerError::permanent(format!("failed to read url {:?}: {error}", spec.url))
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(HandlerError::permanent(format!("{} isn't http or https", spec.url)));
        }
        let request = self.client.request(method, url).headers(headers(ctx, spec)?);
        Ok(match &spec.body {
            Some(body) => request.body(body.clone()),
            None => request,
        })
    }
}

/// The job's headers, and who is asking. The run's id is the idempotency key: a retry is the same request again.
fn headers(ctx: &Context, spec: &HttpSpec) -> Result<HeaderMap, HandlerError> {
    let ours = [
        ("Idempotency-Key", ctx.run_id().to_string()),
        ("Ecron-Run-Id", ctx.run_id().to_string()),
        ("Ecron-Attempt", ctx.attempt().to_string()),
    ];
    let theirs = spec.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let mut headers = HeaderMap::new();
    for (name, value) in ours.into_iter().chain(theirs) {
        let refused = || HandlerError::permanent(format!("{name:?} isn't a header that HTTP can carry"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        headers.insert(name, HeaderValue::from_str(&value).map_err(|_| refused())?);
    }
    Ok(headers)
}

/// An answer, as much of it as is kept.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: String,
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Answer, HandlerError> {
    let response = request.send().await.map_err(|error| describe(&error, error.url()))?;
    let status = response.status();
    let retry_after = retry_after(&response);
    // An error on the way of the body doesn't know the address any more.
    let url = response.url().clone();
    let body = body(response).await.map_err(|error| describe(&error, Some(&url)))?;
    Ok(Answer { status, retry_after, body })
}

/// The beginning of the body. The rest isn't read: it could be of any size.
async fn body(mut response: Response) -> reqwest::Result<String> {
    let mut excerpt = Excerpt::new(OUTPUT_BYTES_MAX);
    let mut left = OUTPUT_BYTES_MAX;
    while let Some(chunk) = response.chunk().await? {
        let kept = chunk.len().min(left);
        excerpt.push(&chunk[..kept]);
        left -= kept;
        if left == 0 {
            break;
        }
    }
    Ok(excerpt.into_text())
}

/// `Retry-After` in seconds. Its other form, a date, is left to the job's own policy.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_DELAY_MAX))
}

fn judge(spec: &HttpSpec, answer: Answer) -> Result<Output, HandlerError> {
    let Answer { status, retry_after, body } = answer;
    let output = if body.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}\n{body}") };
    if status.is_success() {
        return Ok(Output::text(output));
    }
    let text = format!("HTTP {status}");
    let error = match (status, retry_after) {
        _ if spec.is_permanent(status.as_u16()) => HandlerError::permanent(text),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(delay)) => {
            HandlerError::retry_after(delay, text)
        }
        _ => text.into(),
    };
    Err(error.with_output(output))
}

/// What went wrong on the way, in words that tell which part of the way.
fn describe(error: &reqwest::Error, url: Option<&Url>) -> HandlerError {
    let host = url.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    let host = host.unwrap_or_else(|| "the server".into());
    let causes = causes(error);
    let root = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    let io_error = causes.iter().find_map(|cause| cause.downcast_ref::<io::Error>());
    let refused = io_error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    let said = |word: &str| causes.iter().any(|cause| cause.to_string().contains(word));
    let text = if error.is_redirect() {
        format!("more than {REDIRECTS_MAX} redirects, or one that leads nowhere: {root}")
    } else if said("dns error") {
        format!("failed to resolve {host}: {root}")
    } else if refused {
        format!("failed to connect to {host}: connection refused")
    } else if said("certificate") || said("tls") || said("TLS") {
        format!("failed to set up TLS with {host}: {root}")
    } else if error.is_timeout() {
        format!("failed to connect to {host} within {CONNECT_TIMEOUT:?}")
    } else if error.is_connect() {
        format!("failed to connect to {host}: {root}")
    } else {
        format!("failed to get an answer from {host}: {root}")
    };
    text.into()
}

/// What an error comes from, the root last.
fn causes(error: &reqwest::Error) -> Vec<&(dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    causes
}
