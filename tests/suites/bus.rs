//! The bus over a real nats-server: the conformance suite, and what only a real server can do to it.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream;
use bus::api::ApiHandler;
use bus::conformance::{ACK_WAIT, GLANCE, PATIENCE, World, none, one, publication, publish, queue};
use bus::dead::{DeadReason, Redriven, StoredDeadLetter};
use bus::error::BusError;
use bus::intake::IntakeDelivery;
use bus::nats::{NatsBus, NatsOptions};
use bus::queue::Delivery;
use bus::specs::SpecChange;
use bus::subjects::{QueueSubject, STREAM_RUNS};
use bus::wire::Headers;
use bus::wire::headers::{REPEATED, UNREADABLE};
use bus::{ApiClient, ApiServer, DeadLetters, EventReader, Intake, QueueReader, RunStream, SpecStore};
use bytes::Bytes;
use futures_util::StreamExt;
use harness::servers::{self, Server};
use model::id::Revision;
use model::shard::ShardId;
use tokio::time::Instant;

struct Nats {
    server: Server,
    bus: NatsBus,
}

fn options() -> NatsOptions {
    NatsOptions { name: "bus-test".into(), ack_wait: ACK_WAIT, ..NatsOptions::default() }
}

impl Nats {
    async fn start(settings: &[&str]) -> Self {
        let server = servers::nats(settings).await.unwrap();
        let bus = NatsBus::connect(&server.url(), options()).await.unwrap();
        assert_eq!(bus.ensure_streams().await, Ok(vec![]));
        Self { server, bus }
    }

    /// A plain client, as any other program would use.
    async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.server.url()).await.unwrap()
    }

    /// Waits until the bus has noticed that the server is there again.
    async fn reconnected(&self) {
        let deadline = Instant::now() + PATIENCE * 4;
        while self.bus.extent().await.is_err() {
            assert!(Instant::now() < deadline, "not reconnected in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl World for Nats {
    type Bus = NatsBus;

    fn bus(&self) -> &NatsBus {
        &self.bus
    }

    async fn other(&self) -> NatsBus {
        NatsBus::connect(&self.server.url(), options()).await.unwrap()
    }

    async fn publish_raw(&self, subject: &str, headers: Headers, payload: Bytes) {
        let mut map = async_nats::HeaderMap::new();
        for (name, values) in &headers {
            for value in values.split(REPEATED) {
                map.append(name.as_str(), value);
            }
        }
        let stream = jetstream::new(self.client().await);
        let ack = stream.publish_with_headers(subject.to_owned(), map, payload).await.unwrap();
        ack.await.unwrap();
    }

    async fn pass(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

mod conformance {
    use super::Nats;
    bus::bus_conformance!(Nats::start(&[]));
}

/// Fetches until something comes, also through errors.
async fn eventually(bus: &NatsBus, queue: &model::name::QueueId) -> bus::nats::NatsDelivery {
    let deadline = Instant::now() + PATIENCE * 4;
    loop {
        if let Ok(mut batch) = bus.fetch(queue, 1, Duration::from_secs(1)).await
            && let Some(delivery) = batch.pop()
        {
            return delivery;
        }
        assert!(Instant::now() < deadline, "nothing came");
    }
}

#[tokio::test]
async fn an_unreachable_server_and_one_without_jetstream_are_told_apart() {
    let nobody = NatsBus::connect("nats://127.0.0.1:1", NatsOptions::default()).await.unwrap_err();
    assert!(
        matches!(&nobody, BusError::Failed(text) if text.contains("no NATS answers at nats://127.0.0.1:1")),
        "{nobody}"
    );
    let gibberish = NatsBus::connect("nats://no port", NatsOptions::default()).await.unwrap_err();
    assert!(matches!(gibberish, BusError::Refused(_)), "{gibberish}");
    let server = servers::nats(&["accounts { a { users [{user: u, password: p}] } }\nno_auth_user: u"]).await;
    let Ok(server) = server else { return };
    let url = server.url().replace("nats://", "nats://u:p@");
    let refused = NatsBus::connect(&url, NatsOptions::default()).await.unwrap_err();
    assert!(matches!(&refused, BusError::Refused(text) if text.contains("JetStream")), "{refused}");
    let url = server.url().replace("nats://", "nats://u:wrong@");
    let refused = NatsBus::connect(&url, NatsOptions::default()).await.unwrap_err();
    assert!(matches!(&refused, BusError::Refused(text) if text.contains("credentials")), "{refused}");
}

#[tokio::test]
async fn a_stream_with_other_settings_is_reported_and_left_alone() {
    let server = servers::nats(&[]).await.unwrap();
    let theirs = jetstream::stream::Config {
        name: STREAM_RUNS.into(),
        subjects: vec!["ecron.run.*.*".into(), "ecron.submit.*.*".into()],
        ..Default::default()
    };
    let client = async_nats::connect(server.url()).await.unwrap();
    jetstream::new(client).create_stream(theirs).await.unwrap();
    let bus = NatsBus::connect(&server.url(), options()).await.unwrap();
    let drift = bus.ensure_streams().await.unwrap();
    assert_eq!(
        drift,
        [
            "stream ECRON_RUNS: retention is Limits, expected WorkQueue",
            "stream ECRON_RUNS: discard is Old, expected New",
            "stream ECRON_RUNS: duplicate window is 120 s, expected 600 s"
        ]
    );
}

#[tokio::test]
async fn a_full_stream_and_too_large_a_message_are_refused() {
    let server = servers::nats(&[]).await.unwrap();
    let small = NatsOptions { run_bytes_max: Some(4_096), ..options() };
    let bus = NatsBus::connect(&server.url(), small).await.unwrap();
    bus.ensure_streams().await.unwrap();
    let queue = queue("reports");
    let runs = (0..100).map(|second| publication(&queue, "job", second)).collect();
    let results = bus.publish(runs).await;
    assert!(results[0].is_ok(), "{:?}", results[0]);
    assert!(
        matches!(&results[99], Err(BusError::Refused(text)) if text.contains("maximum bytes")),
        "{:?}",
        results[99]
    );
    let mut large = publication(&queue, "job", 1_000);
    large.payload = vec![0; 2_000_000].into();
    let results = bus.publish(vec![large]).await;
    assert!(matches!(&results[0], Err(BusError::Refused(_))), "{:?}", results[0]);
}

#[tokio::test]
async fn a_publisher_without_permission_is_refused() {
    let users = "authorization { users: [
        {user: all, password: p},
        {user: some, password: p, permissions: {publish: {deny: [\"ecron.run.>\"]}}} ] }\nno_auth_user: all";
    let server = servers::nats(&[users]).await.unwrap();
    let all = NatsBus::connect(&server.url(), options()).await.unwrap();
    all.ensure_streams().await.unwrap();
    let url = server.url().replace("nats://", "nats://some:p@");
    let some = NatsBus::connect(&url, options()).await.unwrap();
    let results = some.publish(vec![publication(&queue("reports"), "job", 1)]).await;
    assert!(
        matches!(&results[0], Err(BusError::Refused(text)) if text.contains("no permission")),
        "{results:?}"
    );
}

#[tokio::test]
async fn without_its_stream_a_publication_fails_and_says_why() {
    let server = servers::nats(&[]).await.unwrap();
    let bus = NatsBus::connect(&server.url(), options()).await.unwrap();
    let results = bus.publish(vec![publication(&queue("reports"), "job", 1)]).await;
    assert!(matches!(&results[0], Err(BusError::Failed(_))), "{results:?}");
    let fetched = bus.fetch(&queue("reports"), 1, GLANCE).await;
    assert!(
        matches!(&fetched, Err(BusError::Failed(text)) if text.contains("stream not found")),
        "{fetched:?}"
    );
    assert!(matches!(bus.extent().await, Err(BusError::Failed(_))));
}

/// What the dispatcher must know (measured, not wished for): a restart of NATS forgets the message ids of runs that
/// were acknowledged, so publishing one again stores it again; those still stored are remembered.
#[tokio::test]
async fn a_restart_forgets_the_message_ids_of_acknowledged_runs_only() {
    let mut nats = Nats::start(&[]).await;
    let queue = queue("reports");
    let (acknowledged, waiting) = (publication(&queue, "acknowledged", 1), publication(&queue, "waiting", 1));
    nats.bus.publish(vec![acknowledged.clone(), waiting.clone()]).await;
    one(&nats.bus, &queue).await.ack().await.unwrap();
    let duplicates = async |bus: &NatsBus| {
        let results = bus.publish(vec![acknowledged.clone(), waiting.clone()]).await;
        results.into_iter().map(|result| result.unwrap().duplicate).collect::<Vec<_>>()
    };
    assert_eq!(duplicates(&nats.bus).await, [true, true]);
    nats.server.restart().await.unwrap();
    nats.reconnected().await;
    assert_eq!(duplicates(&nats.bus).await, [false, true]);
}

#[tokio::test]
async fn a_reader_goes_on_after_the_server_was_killed_and_restarted() {
    let mut nats = Nats::start(&[]).await;
    let queue = queue("reports");
    publish(&nats.bus, &queue, 1).await;
    one(&nats.bus, &queue).await.nak(Duration::from_secs(4)).await.unwrap();
    let naked_at = Instant::now();
    // The server writes a consumer's state behind, in whole seconds: a delay that was asked for right before a crash
    // is forgotten (the ack wait counts instead), and an older one may end up to a second early.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // One fetch waits through the crash.
    let bus = nats.bus.clone();
    let reader = queue.clone();
    let waiting = tokio::spawn(async move { eventually(&bus, &reader).await });
    tokio::time::sleep(GLANCE).await;
    nats.server.kill9().unwrap();
    let failed = nats.bus.publish(vec![publication(&queue, "job", 50)]).await;
    assert!(matches!(failed[0], Err(BusError::Failed(_) | BusError::Unknown(_))), "{failed:?}");
    nats.server.restart().await.unwrap();
    let again = waiting.await.unwrap();
    let waited = naked_at.elapsed();
    assert_eq!(again.delivered(), 2, "the retry survived the crash");
    assert!(waited >= Duration::from_millis(2_900), "and so did its delay: {waited:?}");
    again.ack().await.unwrap();
    let at = Instant::now();
    let results = nats.bus.publish(vec![publication(&queue, "job", 99)]).await;
    assert!(results[0].is_ok(), "{results:?}");
    let delivery = eventually(&nats.bus, &queue).await;
    assert!(at.elapsed() < Duration::from_secs(1), "{:?}", at.elapsed());
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn a_paused_server_leaves_the_outcome_unknown() {
    let mut nats = Nats::start(&[]).await;
    let queue = queue("reports");
    publish(&nats.bus, &queue, 1).await;
    nats.server.pause().unwrap();
    // A process doesn't stop in the instant of the signal: what it still answers was published before.
    let (mut second, mut started) = (50, Instant::now());
    let mut results = nats.bus.publish(vec![publication(&queue, "job", second)]).await;
    while results[0].is_ok() && second < 100 {
        (second, started) = (second + 1, Instant::now());
        results = nats.bus.publish(vec![publication(&queue, "job", second)]).await;
    }
    assert!(matches!(results[0], Err(BusError::Unknown(_))), "{results:?}");
    assert!(
        started.elapsed() < bus::nats::PUBLISH_TIMEOUT + Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    nats.server.resume().unwrap();
    nats.reconnected().await;
    let results = nats.bus.publish(vec![publication(&queue, "job", second)]).await;
    assert!(results[0].is_ok(), "the same id may be sent again: {results:?}");
}

#[tokio::test]
async fn changes_end_with_the_connection_and_go_on_from_the_last_caught_up() {
    let mut nats = Nats::start(&[]).await;
    let job = "billing/a".parse().unwrap();
    let first = nats.bus.put(ShardId(7), &job, None, Bytes::from_static(b"1")).await.unwrap();
    let mut changes = nats.bus.changes(&[ShardId(7)], Revision(0)).await.unwrap();
    assert!(matches!(changes.next().await, Some(SpecChange::Put { .. })));
    assert_eq!(changes.next().await, Some(SpecChange::CaughtUp { revision: first }));
    nats.server.kill9().unwrap();
    let end = tokio::time::timeout(PATIENCE, async { while changes.next().await.is_some() {} }).await;
    assert!(end.is_ok(), "the stream goes on without a server");
    nats.server.restart().await.unwrap();
    nats.reconnected().await;
    let second = nats.bus.put(ShardId(7), &job, Some(first), Bytes::from_static(b"2")).await.unwrap();
    let mut changes = nats.bus.changes(&[ShardId(7)], first).await.unwrap();
    let next = tokio::time::timeout(PATIENCE, changes.next()).await.unwrap();
    assert!(matches!(next, Some(SpecChange::Put { spec, .. }) if spec.revision == second));
}

#[tokio::test]
async fn changes_end_when_the_bucket_is_deleted() {
    let nats = Nats::start(&[]).await;
    let job = "billing/a".parse().unwrap();
    nats.bus.put(ShardId(7), &job, None, Bytes::from_static(b"1")).await.unwrap();
    let mut changes = nats.bus.changes(&[ShardId(7)], Revision(0)).await.unwrap();
    assert!(changes.next().await.is_some());
    let stream = jetstream::new(nats.client().await);
    stream.delete_stream("KV_ecron_specs").await.unwrap();
    nats.bus.ensure_streams().await.unwrap();
    let end = tokio::time::timeout(PATIENCE, async { while changes.next().await.is_some() {} }).await;
    assert!(end.is_ok(), "the stream goes on in another bucket");
}

#[tokio::test]
async fn readers_go_on_when_their_streams_were_deleted_and_created_again() {
    let nats = Nats::start(&[]).await;
    let queue = queue("reports");
    publish(&nats.bus, &queue, 1).await;
    one(&nats.bus, &queue).await.ack().await.unwrap();
    none(&nats.bus, &queue).await;
    let before = nats.bus.extent().await.unwrap();
    let stream = jetstream::new(nats.client().await);
    stream.delete_stream(STREAM_RUNS).await.unwrap();
    assert!(nats.bus.fetch(&queue, 1, GLANCE).await.is_err());
    assert_eq!(nats.bus.ensure_streams().await, Ok(vec![]));
    let after = nats.bus.extent().await.unwrap();
    assert!(after.created_at > before.created_at && after.last_sequence == 0, "{before:?} {after:?}");
    publish(&nats.bus, &queue, 1).await;
    eventually(&nats.bus, &queue).await.ack().await.unwrap();
}

#[tokio::test]
async fn a_deleted_consumer_is_created_again_while_a_fetch_waits() {
    let nats = Nats::start(&[]).await;
    let queue = queue("reports");
    none(&nats.bus, &queue).await;
    let bus = nats.bus.clone();
    let reader = queue.clone();
    let waiting = tokio::spawn(async move { eventually(&bus, &reader).await });
    tokio::time::sleep(GLANCE).await;
    let stream = jetstream::new(nats.client().await);
    stream.delete_consumer_from_stream("billing_reports", STREAM_RUNS).await.unwrap();
    publish(&nats.bus, &queue, 1).await;
    waiting.await.unwrap().ack().await.unwrap();
}

#[tokio::test]
async fn a_publisher_cannot_imitate_the_servers_statuses() {
    let nats = Nats::start(&[]).await;
    let queue = queue("reports");
    let block = b"NATS/1.0 408 Request Timeout\r\n\r\n";
    raw_publish(&nats.server, &QueueSubject::Submit.of(&queue), block, b"").await;
    let delivery = one(&nats.bus, &queue).await;
    assert!(delivery.order().is_ok());
    delivery.ack().await.unwrap();
}

/// Header blocks of which the client's connection dies (the first one kills its task, the others cut it), and what the
/// letter says of them.
const MALFORMED: [(&[u8], &str); 5] = [
    (b"NATS/1.0\r\nX-A: a\rb\r\nX-Good: 1\r\n\r\n", "header X-A has a line break"),
    (b"NATS/1.0\r\nX-A: \xff\r\nX-Good: 1\r\n\r\n", "isn't UTF-8"),
    (b"NATS/1.0\r\nX-A\r\nX-Good: 1\r\n\r\n", "has no colon"),
    (b"X-A: a\r\nX-Good: 1\r\n\r\n", "begins with \"X-A: a\""),
    (b"NATS/1.0\r\nX A: a\r\nX-Good: 1\r\n\r\n", "header name \"X A\""),
];

const GOOD: &[u8] = b"NATS/1.0\r\nX-Good: 1\r\n\r\n";

/// Waits for a number of letters, and checks that no further one comes.
async fn letters(bus: &NatsBus, count: usize) -> Vec<StoredDeadLetter> {
    let deadline = Instant::now() + PATIENCE * 4;
    while bus.letters(1, 100).await.unwrap().len() < count {
        assert!(Instant::now() < deadline, "no {count} letters in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(ACK_WAIT + GLANCE).await;
    let letters = bus.letters(1, 100).await.unwrap();
    assert_eq!(letters.len(), count, "{letters:?}");
    letters
}

fn check_letter(stored: &StoredDeadLetter, subject: &str, error: &str, payload: &[u8]) {
    let letter = &stored.letter;
    assert_eq!((letter.subject.as_str(), letter.reason), (subject, DeadReason::MalformedHeaders));
    assert!(letter.error.contains(error), "{letter:?}");
    assert_eq!(letter.payload, payload);
    assert_eq!(letter.original_headers.get("X-Good").map(String::as_str), Some("1"), "{letter:?}");
    assert!(letter.original_headers.contains_key(UNREADABLE), "{letter:?}");
}

#[tokio::test]
async fn a_malformed_header_block_does_not_cut_the_connection() {
    for (block, error) in MALFORMED {
        let nats = Nats::start(&[]).await;
        let queue = queue("reports");
        let subject = QueueSubject::Submit.of(&queue);
        for (block, payload) in [(GOOD, "before"), (block, "bad"), (GOOD, "behind")] {
            raw_publish(&nats.server, &subject, block, payload.as_bytes()).await;
        }
        let mut read = Vec::new();
        while read.len() < 2 {
            let delivery = eventually(&nats.bus, &queue).await;
            read.push(delivery.payload().clone());
            delivery.ack().await.unwrap();
        }
        assert_eq!(read, ["before", "behind"], "{error}");
        let letters = letters(&nats.bus, 1).await;
        check_letter(&letters[0], &subject, error, b"bad");
        assert_eq!(letters[0].letter.id, "ECRON_RUNS/2");
        let redriven = nats.bus.redrive(letters[0].number).await;
        assert!(matches!(redriven, Ok(Redriven::Unreadable { .. })), "{redriven:?}");
        none(&nats.bus, &queue).await;
        assert_eq!(nats.bus.extent().await.unwrap().messages, 0);
    }
}

#[tokio::test]
async fn a_fetch_that_waits_lives_through_malformed_header_blocks() {
    let nats = Nats::start(&[]).await;
    let queue = queue("reports");
    let subject = QueueSubject::Submit.of(&queue);
    none(&nats.bus, &queue).await;
    let (bus, reader) = (nats.bus.clone(), queue.clone());
    let waiting = tokio::spawn(async move { bus.fetch(&reader, 10, PATIENCE * 2).await });
    tokio::time::sleep(GLANCE).await;
    for (block, _) in MALFORMED {
        raw_publish(&nats.server, &subject, block, b"bad").await;
    }
    let letters = letters(&nats.bus, MALFORMED.len()).await;
    for (letter, (_, error)) in letters.iter().zip(MALFORMED) {
        check_letter(letter, &subject, error, b"bad");
    }
    publish(&nats.bus, &queue, 1).await;
    let batch = waiting.await.unwrap().unwrap();
    assert_eq!(batch.len(), 1);
    batch[0].ack().await.unwrap();
}

#[tokio::test]
async fn a_malformed_header_block_disturbs_neither_other_queues_nor_publishing() {
    let nats = Nats::start(&[]).await;
    let (disturbed, other) = (queue("reports"), queue("mails"));
    let subject = QueueSubject::Submit.of(&disturbed);
    none(&nats.bus, &other).await;
    let (bus, reader) = (nats.bus.clone(), disturbed.clone());
    let disturbing = tokio::spawn(async move {
        let mut good = 0;
        while good < 3 {
            eventually(&bus, &reader).await.ack().await.unwrap();
            good += 1;
        }
    });
    let mut second = 0;
    let mut rounds = 0;
    while rounds < 10 || !disturbing.is_finished() {
        if let Some((block, _)) = MALFORMED.get(rounds) {
            raw_publish(&nats.server, &subject, block, b"bad").await;
        } else if rounds < MALFORMED.len() + 3 {
            raw_publish(&nats.server, &subject, GOOD, b"good").await;
        }
        rounds += 1;
        for _ in 0..20 {
            second += 1;
            let results = nats.bus.publish(vec![publication(&other, "job", second)]).await;
            assert!(results[0].is_ok(), "{results:?}");
            let delivery = one(&nats.bus, &other).await;
            assert_eq!(delivery.delivered(), 1, "was lost once");
            delivery.ack().await.unwrap();
            assert!(nats.bus.connected());
        }
        assert!(rounds < 1_000, "the disturbed queue stands still");
    }
    letters(&nats.bus, MALFORMED.len()).await;
}

#[tokio::test]
async fn malformed_deferred_work_becomes_a_dead_letter_too() {
    let nats = Nats::start(&[]).await;
    let subject = QueueSubject::Defer.of(&queue("reports"));
    for (block, _) in MALFORMED {
        raw_publish(&nats.server, &subject, block, b"bad").await;
        raw_publish(&nats.server, &subject, GOOD, b"good").await;
    }
    raw_publish(&nats.server, "ecron.defer.billing.a\u{a0}b", GOOD, b"subject").await;
    raw_publish(&nats.server, &subject, GOOD, b"good").await;
    let deadline = Instant::now() + PATIENCE * 4;
    let mut good = 0;
    while good < MALFORMED.len() + 1 {
        assert!(Instant::now() < deadline, "only {good} came");
        for delivery in nats.bus.fetch_intake(1, PATIENCE).await.unwrap_or_default() {
            assert_eq!(delivery.payload(), "good");
            delivery.ack().await.unwrap();
            good += 1;
        }
    }
    let letters = letters(&nats.bus, MALFORMED.len() + 1).await;
    for (letter, (_, error)) in letters.iter().zip(MALFORMED) {
        check_letter(letter, &subject, error, b"bad");
    }
    assert_eq!(letters[MALFORMED.len()].letter.reason, DeadReason::Undecodable);
}

#[tokio::test]
async fn a_message_too_large_for_a_letter_is_cut_rather_than_left_to_circle() {
    let nats = Nats::start(&[]).await;
    let queue = queue("reports");
    let payload = vec![b'x'; 1_040_000];
    raw_publish(&nats.server, &QueueSubject::Submit.of(&queue), MALFORMED[0].0, &payload).await;
    let bus = nats.bus.clone();
    let reading = tokio::spawn(async move { bus.fetch(&queue, 1, PATIENCE).await });
    let letters = letters(&nats.bus, 1).await;
    assert!(
        letters[0].letter.error.contains("payload of 1040000 bytes was cut"),
        "{}",
        letters[0].letter.error
    );
    assert!(letters[0].letter.payload.len() > 900_000);
    assert!(reading.await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn malformed_requests_do_not_reach_the_trusted_connection() {
    let nats = Nats::start(&[]).await;
    let bus = nats.bus.clone();
    let handler: ApiHandler = Arc::new(|_, body| Box::pin(async move { body }));
    // As the planner does: it serves again when serving ended.
    let serving = tokio::spawn(async move {
        loop {
            let _ = bus.serve(handler.clone()).await;
            tokio::time::sleep(GLANCE).await;
        }
    });
    let caller = nats.other().await;
    let answered = async || {
        let deadline = Instant::now() + PATIENCE;
        while caller.request("get", Bytes::from_static(b"x"), GLANCE).await.is_err() {
            assert!(Instant::now() < deadline, "nobody answers");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    answered().await;
    for (block, _) in MALFORMED {
        raw_publish(&nats.server, "ecron.api.v1.get", block, b"bad").await;
        answered().await;
        assert!(nats.bus.connected());
        assert!(nats.bus.extent().await.is_ok());
    }
    serving.abort();
}

/// Odd, but the client reads them: so must the sweep leave them alone, else it would take them from who works on them.
#[tokio::test]
async fn odd_header_blocks_that_the_client_reads_are_delivered() {
    let nats = Nats::start(&[]).await;
    let queue = queue("reports");
    let subject = QueueSubject::Submit.of(&queue);
    let odd: [&[u8]; 5] = [
        b"NATS/1.0 408 Request Timeout\r\n\r\n",
        b"NATS/1.0\nA: 1\n goes on\n",
        b"NATS/1.0\r\nA: \0\r\n\r\n",
        b"NATS/1.0",
        b"NATS/1.0\r\n: nameless\r\n\r\n",
    ];
    for (index, block) in odd.into_iter().enumerate() {
        raw_publish(&nats.server, &subject, block, b"").await;
        let delivery = one(&nats.bus, &queue).await;
        assert_eq!(delivery.delivered(), 1, "{index}");
        delivery.ack().await.unwrap();
    }
    assert_eq!(nats.bus.letters(1, 1).await, Ok(vec![]));
}

/// Publishes a block of headers byte for byte, as a client that doesn't check them could.
async fn raw_publish(server: &Server, subject: &str, block: &[u8], payload: &[u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let (header_bytes, bytes) = (block.len(), block.len() + payload.len());
    let connect = "CONNECT {\"verbose\":false,\"headers\":true}\r\n";
    let publish = format!("{connect}HPUB {subject} {header_bytes} {bytes}\r\n");
    let message = [publish.as_bytes(), block, payload, b"\r\nPING\r\n"].concat();
    socket.write_all(&message).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("PONG") {
        let mut part = [0; 4_096];
        let read = socket.read(&mut part).await.unwrap();
        assert!(read > 0, "closed: {answer}");
        answer.push_str(&String::from_utf8_lossy(&part[..read]));
    }
}

#[tokio::test]
async fn an_existing_queues_ack_wait_is_only_ever_lengthened() {
    let nats = Nats::start(&[]).await;
    let queue = queue("reports");
    let ack_wait = async || {
        let stream = jetstream::new(nats.client().await).get_stream(STREAM_RUNS).await.unwrap();
        stream.consumer_info("billing_reports").await.unwrap().config.ack_wait
    };
    nats.bus.ensure_queue(&queue).await.unwrap();
    assert_eq!(ack_wait().await, ACK_WAIT);
    for (theirs, expected) in [(3, 3), (2, 3)] {
        let theirs = NatsOptions { ack_wait: Duration::from_secs(theirs), ..options() };
        let other = NatsBus::connect(&nats.server.url(), theirs).await.unwrap();
        other.ensure_queue(&queue).await.unwrap();
        assert_eq!(ack_wait().await, Duration::from_secs(expected));
    }
}

/// Figures, not a check: `cargo test -p ecron-tests --release --test bus -- --ignored --nocapture figures`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures for people"]
async fn figures() -> anyhow::Result<()> {
    let nats = Nats::start(&[]).await;
    let queue = queue("reports");
    none(&nats.bus, &queue).await;
    let other = nats.other().await;
    let mut latencies = Vec::new();
    for second in 0..300 {
        let waiting = {
            let (bus, queue) = (nats.bus.clone(), queue.clone());
            tokio::spawn(async move { (bus.fetch(&queue, 10, PATIENCE).await, Instant::now()) })
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
        let at = Instant::now();
        other.publish(vec![publication(&queue, "latency", second)]).await;
        let (batch, received_at) = waiting.await?;
        latencies.push(received_at - at);
        for delivery in batch? {
            delivery.ack().await?;
        }
    }
    latencies.sort();
    println!("idle executor, publish to fetched: p50 {:?}, p99 {:?}", latencies[150], latencies[297]);
    const RUNS: i64 = 50_000;
    let started = Instant::now();
    for batch in 0..RUNS / 500 {
        let runs = (0..500).map(|n| publication(&queue, "load", batch * 500 + n)).collect();
        for published in other.publish(runs).await {
            published?;
        }
    }
    println!("publish in batches of 500: {:.0} /s", RUNS as f64 / started.elapsed().as_secs_f64());
    for confirmed in [true, false] {
        let started = Instant::now();
        let mut done = 0;
        while done < RUNS / 2 {
            let batch = nats.bus.fetch(&queue, 500, PATIENCE).await?;
            done += i64::try_from(batch.len())?;
            let acks = batch.iter().map(async |delivery| {
                if confirmed { delivery.ack().await } else { delivery.ack_unconfirmed().await }
            });
            for ack in futures_util::future::join_all(acks).await {
                ack?;
            }
        }
        let rate = f64::from(u32::try_from(done)?) / started.elapsed().as_secs_f64();
        println!("fetch 500 and ack (confirmed: {confirmed}): {rate:.0} /s");
    }
    let runs = (0..500).map(|n| publication(&queue, "events", n)).collect();
    other.publish(runs).await;
    nats.bus.event_progress().await.context("progress")?;
    Ok(())
}
