//! `submit`: ad-hoc work by request and reply, for whoever wants to know its run, or wants it to be unique.
//!
//! What a request may say is what a publisher's headers may say, and is read by the same rules.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bus::BusError;
use bus::order::{Order, OrderProblem, Publication};
use bus::subjects::QueueSubject;
use bus::wire::headers::{AT, DELAY, Headers, KEY, RETRY, TIMEOUT, is_reserved};
use bus::wire::order::{RawRun, decode_order};
use bus::wire::{defer_request, message_id};
use bytes::Bytes;
use model::id::{Key, Occurrence, RunId};
use model::manifest;
use model::name::QueueId;
use model::run::Generation;
use model::schedule::parse_duration;
use model::unique::{Freed, Scope, UNIQUE_KEY_CHARS_MAX, UniqueKey, Until};
use store::Store;
use store::adhoc::Claimed;

use super::Api;
use super::types::{ApiError, ErrorKind, SubmitReply, SubmitRequest, UniqueRequest};
use crate::intake::one_shot;
use crate::service::PlannerBus;

/// A request, read and checked.
struct Submission {
    queue: QueueId,
    key: Option<Key>,
    headers: Headers,
    payload: Bytes,
}

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn submit(
        &self,
        request: Result<SubmitRequest, ApiError>,
    ) -> Result<SubmitReply, ApiError> {
        let request = request?;
        let submission = read(&request)?;
        tracing::debug!(queue = %submission.queue, key = request.key, by = request.by, "work is submitted");
        let later = request.at.is_some() || request.delay.is_some();
        match (&request.unique, later) {
            (Some(_), true) => Err(ApiError::refused(
                "submit unique work for later: give either unique, or at or delay".into(),
            )),
            (None, true) => self.submit_later(submission).await,
            (Some(unique), false) => self.submit_unique(submission, unique).await,
            (None, false) => self.submit_now(submission).await,
        }
    }

    async fn submit_now(&self, mut submission: Submission) -> Result<SubmitReply, ApiError> {
        if submission.key.is_none() {
            submission.headers.insert(KEY.into(), self.entropy.mint_id());
        }
        let order = self.order(&submission)?;
        let run = order.run_id.to_string();
        let duplicate = self.send(order, submission.payload).await?;
        Ok(SubmitReply { run, duplicate })
    }

    async fn submit_unique(
        &self,
        submission: Submission,
        unique: &UniqueRequest,
    ) -> Result<SubmitReply, ApiError> {
        let (key, until) = unique_key(&submission, unique)?;
        let shard = self.shards.shard_of_key(&key);
        let ours = key.run_id(self.clock.now()).map_err(|problem| ApiError::refused(problem.to_string()))?;
        let order = self.order(&submission)?;
        match self.store.claim_key(shard, &key, &ours, until).await? {
            Claimed::New => {
                let run = ours.to_string();
                match self.send(Order { run_id: ours.clone(), ..order }, submission.payload).await {
                    Ok(_) => {}
                    // What may be in the queue keeps its key.
                    Err(problem) if problem.kind == ErrorKind::Unknown => return Err(problem),
                    Err(problem) => {
                        self.store.free_key(shard, &key, &ours, Freed::Unpublished).await?;
                        return Err(problem);
                    }
                }
                self.store.confirm_key(shard, &key, &ours).await?;
                Ok(SubmitReply { run, duplicate: false })
            }
            Claimed::Taken { run_id, published: true } => {
                Ok(SubmitReply { run: run_id.to_string(), duplicate: true })
            }
            // Whoever took the key may have died before it published: then this is the run. If it didn't, the message id
            // is known, and ours is dropped.
            Claimed::Taken { run_id: RunId::AdHoc { queue, key: run_key }, published: false }
                if queue == submission.queue =>
            {
                let run_id = RunId::AdHoc { queue, key: run_key };
                self.send(Order { run_id: run_id.clone(), ..order }, submission.payload).await?;
                self.store.confirm_key(shard, &key, &run_id).await?;
                Ok(SubmitReply { run: run_id.to_string(), duplicate: true })
            }
            Claimed::Taken { run_id, published: false } => Err(ApiError::new(
                ErrorKind::Unknown,
                format!("find out whether run {run_id}, which has the key, is in its queue; try again"),
            )),
        }
    }

    /// It becomes a job that occurs once, as what is published to `ecron.defer.…` does.
    async fn submit_later(&self, submission: Submission) -> Result<SubmitReply, ApiError> {
        let Submission { queue, headers, payload, .. } = &submission;
        let now = self.clock.now();
        let deferred =
            defer_request(&QueueSubject::Defer.of(queue), headers, payload, now).map_err(refused)?;
        let spec = one_shot(&deferred, self.entropy.next_u64());
        let shard = self.shards.shard_of(&spec.id);
        let known = self.bus.get(shard, &spec.id).await?.and_then(|stored| {
            let (present, _) = manifest::from_bytes(&stored.value, stored.written_at).ok()?;
            present.schedule.at.first().copied().filter(|_| present.delete_when_done)
        });
        if known.is_none() && !self.put_once(&spec, deferred.due_at, now).await? {
            return Err(ApiError::refused(format!("submit it: there is a job named {} already", spec.id)));
        }
        let due_at = known.unwrap_or(deferred.due_at);
        let run = Occurrence { job: spec.id, due_at }.to_string();
        Ok(SubmitReply { run, duplicate: known.is_some() })
    }

    /// The order that a publisher's message of the same words would be.
    fn order(&self, submission: &Submission) -> Result<Order, ApiError> {
        let Submission { queue, headers, payload, .. } = submission;
        let subject = QueueSubject::Submit.of(queue);
        let raw = RawRun { subject: &subject, headers, payload, sequence: 0, stored_at: self.clock.now() };
        decode_order(raw).map_err(refused)
    }

    /// Publishes; `true` if the stream knew it already. On the subject where only ecron publishes, so that nobody can
    /// occupy its message id.
    async fn send(&self, order: Order, payload: Bytes) -> Result<bool, ApiError> {
        self.bus.ensure_queue(&order.queue).await?;
        let key = match self.bus.cluster().await? {
            Some(cluster) => cluster.message_id_key,
            None => return Err(ApiError::new(ErrorKind::Failed, "find the cluster's settings".into())),
        };
        let message_id = message_id(&key, &order.run_id, Generation(0), 0);
        let mut published = self.bus.publish(vec![Publication { order, message_id, payload }]).await;
        let nothing = || Err(BusError::Failed("nothing was sent".into()));
        Ok(published.pop().unwrap_or_else(nothing)?.duplicate)
    }
}

fn refused(problem: OrderProblem) -> ApiError {
    let OrderProblem { header, problem } = problem;
    ApiError::refused(format!("read the request: what becomes {header} {problem}"))
}

fn read(request: &SubmitRequest) -> Result<Submission, ApiError> {
    let wrong = |what: String| ApiError::refused(format!("read the request: {what}"));
    let queue: QueueId = request.queue.parse().map_err(|problem| wrong(format!("queue {problem}")))?;
    let payload = match (&request.payload, &request.payload_base64) {
        (Some(_), Some(_)) => return Err(wrong("payload and payloadBase64 were both given".into())),
        (Some(payload), None) => Bytes::from(payload.to_string()),
        (None, Some(text)) => {
            STANDARD.decode(text).map_err(|problem| wrong(format!("payloadBase64: {problem}")))?.into()
        }
        (None, None) => Bytes::new(),
    };
    if let Some(name) = request.headers.keys().find(|name| is_reserved(name)) {
        return Err(wrong(format!("headers: {name} isn't one that a publisher may send")));
    }
    let key = request.key.as_deref().map(Key::new).transpose();
    let key = key.map_err(|problem| wrong(format!("key: failed to {problem}")))?;
    let mut headers: Headers = request.headers.clone();
    let said = [
        (KEY, &request.key),
        (TIMEOUT, &request.timeout),
        (RETRY, &request.retry),
        (AT, &request.at),
        (DELAY, &request.delay),
    ];
    headers.extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    Ok(Submission { queue, key, headers, payload })
}

fn unique_key(submission: &Submission, unique: &UniqueRequest) -> Result<(UniqueKey, Until), ApiError> {
    let wrong = |what: String| ApiError::refused(format!("read the request: {what}"));
    let Some(key) = submission.key.clone() else { return Err(wrong("unique work needs a key".into())) };
    if key.as_str().chars().count() > UNIQUE_KEY_CHARS_MAX {
        return Err(wrong(format!("the key of unique work has at most {UNIQUE_KEY_CHARS_MAX} characters")));
    }
    let word = unique.scope.as_deref().unwrap_or("queue");
    let scope = Scope::from_word(word)
        .ok_or_else(|| wrong(format!("unique.scope is {word:?}; expected queue or namespace")))?;
    let until = match unique.until.as_deref().unwrap_or("done") {
        "started" => Until::Started,
        "done" => Until::Done,
        period => Until::Period(parse_duration(period).map_err(|problem| {
            wrong(format!("unique.until is {period:?}; expected started, done or a duration ({problem})"))
        })?),
    };
    Ok((UniqueKey { scope, queue: submission.queue.clone(), key }, until))
}
