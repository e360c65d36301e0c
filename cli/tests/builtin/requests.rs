//! Requests to a real server.

use std::time::Duration;

use bus::order::{Order, WorkKind};
use model::limits::OUTPUT_BYTES_MAX;
use model::run::Outcome;
use serde_json::json;
use tokio::net::TcpListener;

use crate::bench::{Answer, Bench, order};
use crate::server::{Reaction, Server};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

fn status(status: &str, headers: &str) -> Reaction {
    Reaction::Answer(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: 4\r\nConnection: close\r\n\r\nbody"
    ))
}

#[tokio::test]
async fn a_request_says_what_the_job_says_and_which_run_it_is() {
    let server = Server::answering(OK).await;
    let bench = Bench::new(false);
    let spec = json!({
        "method": "POST", "url": server.url("/hook?x=1"), "headers": {"Authorization": "Bearer t"}, "body": "{\"a\":1}"
    });
    assert_eq!(bench.http(spec).await.succeeded(), "HTTP 200 OK\nhello");
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!((head.lines().next(), body), (Some("POST /hook?x=1 HTTP/1.1"), "{\"a\":1}"));
    let head = head.to_lowercase();
    for line in [
        "authorization: bearer t",
        "idempotency-key: billing/nightly@2026-11-22t06:45:00z",
        "ecron-run-id: billing/nightly@2026-11-22t06:45:00z",
        "ecron-attempt: 1",
        "user-agent: ecron/",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
}

#[tokio::test]
async fn a_get_needs_no_more_than_an_address() {
    let server = Server::answering("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    let done = Bench::new(false).http(json!({"url": server.url("/")})).await;
    assert_eq!(done.succeeded(), "HTTP 204 No Content");
    assert!(server.requests()[0].starts_with("GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn the_status_decides_whether_to_try_again() {
    let server = Server::start(|request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let (code, after) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let after = if after.is_empty() { String::new() } else { format!("Retry-After: {after}\r\n") };
        status(&format!("{} Because", code.trim_start_matches('/')), &after)
    })
    .await;
    let bench = Bench::new(false);
    for code in [400, 401, 403, 404, 410, 422, 451] {
        let done = bench.http(json!({"url": server.url(&format!("/{code}"))})).await;
        assert!(done.given_up().starts_with(&format!("HTTP {code}")), "{done:?}");
        assert!(done.output().ends_with("\nbody"));
    }
    let seconds = Duration::from_secs;
    let retried = [
        ("408", 10),
        ("425", 10),
        ("429", 10),
        ("500", 10),
        ("502", 10),
        ("503", 10),
        ("429/7", 7),
        ("503/90", 90),
        ("500/90", 10),
        ("429/soon", 10),
    ];
    for (path, delay) in retried {
        let done = bench.http(json!({"url": server.url(&format!("/{path}"))})).await;
        assert_eq!(done.answer, Answer::Nak(seconds(delay)), "{path} {done:?}");
    }
    let own = async |path: &str| {
        let url = server.url(path);
        bench.http(json!({"url": url, "permanentStatuses": ["429", "500-502"]})).await.answer
    };
    assert_eq!(own("/404").await, Answer::Nak(seconds(10)));
    assert_eq!((own("/429/7").await, own("/501").await), (Answer::Term, Answer::Term));
}

#[tokio::test]
async fn three_redirects_are_followed_and_no_more() {
    let server = Server::start(|request| {
        let left: u32 = request.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).unwrap_or(0);
        match left {
            0 => Reaction::Answer(OK.into()),
            n => status("302 Found", &format!("Location: /{}\r\n", n - 1)),
        }
    })
    .await;
    let bench = Bench::new(false);
    assert_eq!(bench.http(json!({"url": server.url("/3")})).await.succeeded(), "HTTP 200 OK\nhello");
    let done = bench.http(json!({"url": server.url("/4")})).await;
    assert!(done.retried().starts_with("more than 3 redirects"), "{done:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_read_up_to_the_limit() {
    for status in ["200 OK", "500 No"] {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 10737418240\r\n\r\nbegin ");
        let server = Server::start(move |_| Reaction::Endless(head.clone())).await;
        let done = Bench::new(false).http(json!({"url": server.url("/")})).await;
        assert!(
            done.output().starts_with(&format!("HTTP {}", status.split(' ').next().unwrap())),
            "{done:?}"
        );
        assert!(done.output().contains("begin xxx"));
        assert!((OUTPUT_BYTES_MAX / 2..=OUTPUT_BYTES_MAX).contains(&done.output().len()));
        assert_eq!(done.answer == Answer::Ack, status == "200 OK");
    }
}

#[tokio::test]
async fn silence_ends_with_the_timeout() {
    let bench = Bench::new(false);
    for said in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"] {
        let server = Server::start(move |_| Reaction::Silence(said.into())).await;
        let order = Order { timeout: Duration::from_millis(300), ..order(WorkKind::Http) };
        let done = bench.carry_out(order, &json!({"url": server.url("/")})).await;
        assert_eq!(done.report.end.outcome, Outcome::TimedOut);
        assert_eq!(done.retried(), "not done within its timeout of 300ms");
    }
}

#[tokio::test]
async fn an_error_on_the_way_says_where() {
    let bench = Bench::new(false);
    let retried = async |url: String| bench.http(json!({ "url": url })).await.retried().to_owned();

    // Bound and dropped: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(
        retried(format!("http://{free}/")).await,
        format!("failed to connect to {free}: connection refused")
    );

    let error = retried("http://no-such-host.invalid/".into()).await;
    assert!(error.starts_with("failed to resolve no-such-host.invalid:80: "), "{error}");

    let plain = Server::answering(OK).await;
    let error = retried(format!("https://{}/", plain.address)).await;
    assert!(error.contains(&plain.address.to_string()), "{error}");

    let short =
        Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf").await;
    let error = retried(short.url("/")).await;
    assert!(error.starts_with(&format!("failed to get an answer from {}: ", short.address)), "{error}");

    let noise = Server::answering("220 smtp.example ESMTP\r\n").await;
    let error = retried(noise.url("/")).await;
    assert!(error.starts_with(&format!("failed to get an answer from {}: ", noise.address)), "{error}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_given_up_at_once() {
    let bench = Bench::new(false);
    let given_up = async |spec| bench.http(spec).await.given_up().to_owned();
    assert!(given_up(json!({"url": "nowhere"})).await.starts_with("failed to read url \"nowhere\": "));
    assert_eq!(
        given_up(json!({"url": "file:///etc/passwd"})).await,
        "file:///etc/passwd isn't http or https"
    );
    assert_eq!(
        given_up(json!({"url": "http://x/", "method": "G ET"})).await,
        "\"G ET\" isn't an HTTP method"
    );
    let header = json!({"url": "http://x/", "headers": {"X": "a\r\nEvil: 1"}});
    assert_eq!(given_up(header).await, "\"X\" isn't a header that HTTP can carry");
}
