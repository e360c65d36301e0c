//! Reporting, many at once: what waits when the last reports were stored goes out together, several in a message.
//!
//! Every caller waits until its own report is stored, so that nothing is acknowledged whose outcome isn't (A5). A report
//! that comes alone is sent alone and at once, in the form that bare clients use.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use model::name::QueueId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::PUBLISH_TIMEOUT;
use super::link::{Link, Outgoing};
use crate::error::BusError;
use crate::events::AttemptReport;
use crate::subjects::attempt_event;
use crate::wire::event::{encode_report, encode_reports, report_id};
use crate::wire::headers::{Headers, MESSAGE_ID};

/// Reports that are stored at once.
const GROUP_MAX: usize = 1_024;
/// Reports in one message, and their bytes. What is fetched is counted in messages, so it bounds a settler's batch, too.
const MESSAGE_REPORTS_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 64 * 1_024;

/// How long a report waits for others while its queue has free executors and no work: then nobody gains by its being stored
/// sooner, and one at a time each would cost the server and the settlers a message.
const LINGER: Duration = Duration::from_millis(3);

/// The reports of one process. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub(super) struct Reporter(mpsc::UnboundedSender<Waiting>);

type Done = oneshot::Sender<Result<(), BusError>>;

/// A report, encoded, and who waits until it is stored.
struct Waiting {
    queue: QueueId,
    id: String,
    encoded: Bytes,
    may_linger: bool,
    done: Done,
}

/// One message and who waits for it.
struct Parcel {
    message: Outgoing,
    waiting: Vec<Done>,
}

impl Reporter {
    pub(super) fn spawn(link: Link) -> Self {
        // Bounded by the attempts in hand.
        let (reports, received) = mpsc::unbounded_channel();
        tokio::spawn(run(link, received));
        Self(reports)
    }

    /// `Ok` once it is stored.
    pub(super) async fn report(&self, report: &AttemptReport, may_linger: bool) -> Result<(), BusError> {
        let (done, answer) = oneshot::channel();
        let gone = || BusError::Unknown("the reports' task is gone".into());
        let waiting = Waiting {
            queue: report.queue.clone(),
            id: report_id(report),
            encoded: encode_report(report),
            may_linger,
            done,
        };
        self.0.send(waiting).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn run(link: Link, mut reports: mpsc::UnboundedReceiver<Waiting>) {
    let mut group = Vec::new();
    while reports.recv_many(&mut group, GROUP_MAX).await > 0 {
        if group.iter().all(|report| report.may_linger) {
            linger(&mut group, &mut reports).await;
        }
        let (messages, waiting): (Vec<Outgoing>, Vec<Vec<Done>>) =
            pack(group.drain(..)).into_iter().map(|parcel| (parcel.message, parcel.waiting)).unzip();
        let stored = link.store(messages, PUBLISH_TIMEOUT).await;
        for (waiting, stored) in waiting.into_iter().zip(stored) {
            let outcome = stored.map(drop);
            for done in waiting {
                // Nobody waits any more: then nobody needs to know.
                let _ = done.send(outcome.clone());
            }
        }
    }
}

/// Waits for company, until one comes that is in a hurry.
async fn linger(group: &mut Vec<Waiting>, reports: &mut mpsc::UnboundedReceiver<Waiting>) {
    let until = Instant::now() + LINGER;
    while group.len() < GROUP_MAX {
        let Ok(Some(report)) = tokio::time::timeout_at(until, reports.recv()).await else { return };
        let hurry = !report.may_linger;
        group.push(report);
        if hurry {
            return;
        }
    }
}

/// Reports of one queue share messages, in their order; queues don't, because each has permissions of its own.
fn pack(reports: impl Iterator<Item = Waiting>) -> Vec<Parcel> {
    let mut queues: BTreeMap<QueueId, Vec<Waiting>> = BTreeMap::new();
    for report in reports {
        queues.entry(report.queue.clone()).or_default().push(report);
    }
    let mut parcels = Vec::new();
    for (queue, reports) in queues {
        let mut open: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        for report in reports {
            let full = open.len() >= MESSAGE_REPORTS_MAX || bytes + report.encoded.len() > MESSAGE_BYTES_MAX;
            if full && !open.is_empty() {
                parcels.push(parcel(&queue, std::mem::take(&mut open)));
                bytes = 0;
            }
            bytes += report.encoded.len();
            open.push(report);
        }
        parcels.push(parcel(&queue, open));
    }
    parcels
}

fn parcel(queue: &QueueId, reports: Vec<Waiting>) -> Parcel {
    let subject = attempt_event(queue);
    let message = match reports.as_slice() {
        [one] => {
            let id = Headers::from([(MESSAGE_ID.to_owned(), one.id.clone())]);
            Outgoing::new(subject, &id, one.encoded.clone())
        }
        // Who repeats a report does so in other company, and settling it twice is harmless: an id would drop nothing.
        several => {
            let payload = encode_reports(several.iter().map(|report| &report.encoded));
            Outgoing::new(subject, &Headers::new(), payload)
        }
    };
    Parcel { message, waiting: reports.into_iter().map(|report| report.done).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(queue: &str, bytes: usize) -> Waiting {
        let (done, _) = oneshot::channel();
        let encoded = Bytes::from(vec![b'x'; bytes]);
        Waiting {
            queue: queue.parse().unwrap(),
            id: format!("{queue}/{bytes}"),
            encoded,
            may_linger: false,
            done,
        }
    }

    fn packed(reports: Vec<Waiting>) -> Vec<(String, usize)> {
        pack(reports.into_iter()).into_iter().map(|p| (p.message.subject, p.waiting.len())).collect()
    }

    #[test]
    fn reports_of_one_queue_share_messages_up_to_their_limits() {
        let many = (0..=MESSAGE_REPORTS_MAX).map(|_| waiting("a/b", 300)).collect();
        let subject = || "ecron.event.attempt.a.b".to_owned();
        assert_eq!(packed(many), [(subject(), MESSAGE_REPORTS_MAX), (subject(), 1)]);
        let large =
            [MESSAGE_BYTES_MAX - 10, 10, 1, MESSAGE_BYTES_MAX + 1, 1].map(|bytes| waiting("a/b", bytes));
        assert_eq!(packed(large.into()), [(subject(), 2), (subject(), 1), (subject(), 1), (subject(), 1)]);
    }

    #[test]
    fn a_report_alone_has_the_form_and_the_id_that_it_always_had() {
        let parcels = pack([waiting("a/b", 3), waiting("a/c", 4)].into_iter());
        let ids = parcels.iter().map(|parcel| {
            let headers = parcel.message.headers.as_ref().unwrap();
            (headers.get(MESSAGE_ID).unwrap().to_string(), parcel.message.payload.len())
        });
        assert_eq!(ids.collect::<Vec<_>>(), [("a/b/3".to_owned(), 3), ("a/c/4".to_owned(), 4)]);
    }
}
