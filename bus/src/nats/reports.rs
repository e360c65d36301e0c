//! Reporting, many at once: what waits when the last reports were stored goes out together, several in a message.
//!
//! Every caller waits until its own report is stored, so that nothing is acknowledged whose outcome isn't (A5). A report
//! that comes alone is sent alone and at once, in the form that bare clients use.

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

/// The reports of one queue: each has permissions of its own, so that one that may not be reported of mustn't hold up the
/// others. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub(super) struct Reporter(mpsc::UnboundedSender<Waiting>);

type Done = oneshot::Sender<Result<(), BusError>>;

/// A report, encoded, and who waits until it is stored.
struct Waiting {
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
    pub(super) fn spawn(link: Link, queue: &QueueId) -> Self {
        // Bounded by the attempts in hand.
        let (reports, received) = mpsc::unbounded_channel();
        tokio::spawn(run(link, attempt_event(queue), received));
        Self(reports)
    }

    /// `Ok` once it is stored.
    pub(super) async fn report(&self, report: &AttemptReport, may_linger: bool) -> Result<(), BusError> {
        let (done, answer) = oneshot::channel();
        let gone = || BusError::Unknown("the reports' task is gone".into());
        let waiting = Waiting { id: report_id(report), encoded: encode_report(report), may_linger, done };
        self.0.send(waiting).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn run(link: Link, subject: String, mut reports: mpsc::UnboundedReceiver<Waiting>) {
    let mut group = Vec::new();
    while reports.recv_many(&mut group, GROUP_MAX).await > 0 {
        if group.iter().all(|report| report.may_linger) {
            linger(&mut group, &mut reports).await;
        }
        let (messages, waiting): (Vec<Outgoing>, Vec<Vec<Done>>) = pack(&subject, group.drain(..))
            .into_iter()
            .map(|parcel| (parcel.message, parcel.waiting))
            .unzip();
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

/// Several reports a message, in their order.
fn pack(subject: &str, reports: impl Iterator<Item = Waiting>) -> Vec<Parcel> {
    let (mut parcels, mut open, mut bytes) = (Vec::new(), Vec::new(), 0);
    for report in reports {
        let full = open.len() >= MESSAGE_REPORTS_MAX || bytes + report.encoded.len() > MESSAGE_BYTES_MAX;
        if full && !open.is_empty() {
            parcels.push(parcel(subject, std::mem::take(&mut open)));
            bytes = 0;
        }
        bytes += report.encoded.len();
        open.push(report);
    }
    if !open.is_empty() {
        parcels.push(parcel(subject, open));
    }
    parcels
}

fn parcel(subject: &str, reports: Vec<Waiting>) -> Parcel {
    let subject = subject.to_owned();
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

    fn waiting(bytes: usize) -> Waiting {
        let (done, _) = oneshot::channel();
        let encoded = Bytes::from(vec![b'x'; bytes]);
        Waiting { id: format!("id-{bytes}"), encoded, may_linger: false, done }
    }

    fn packed(reports: impl IntoIterator<Item = Waiting>) -> Vec<usize> {
        pack("ecron.event.attempt.a.b", reports.into_iter())
            .iter()
            .map(|parcel| parcel.waiting.len())
            .collect()
    }

    #[test]
    fn reports_share_messages_up_to_their_limits() {
        assert_eq!(packed((0..=MESSAGE_REPORTS_MAX).map(|_| waiting(300))), [MESSAGE_REPORTS_MAX, 1]);
        let large = [MESSAGE_BYTES_MAX - 10, 10, 1, MESSAGE_BYTES_MAX + 1, 1].map(waiting);
        assert_eq!(packed(large), [2, 1, 1, 1]);
    }

    #[test]
    fn a_report_alone_has_the_form_and_the_id_that_it_always_had() {
        let parcels = pack("ecron.event.attempt.a.b", [waiting(3)].into_iter());
        let [Parcel { message, .. }] = parcels.as_slice() else { panic!("not one") };
        let headers = message.headers.as_ref().unwrap();
        assert_eq!((headers.get(MESSAGE_ID).unwrap().as_str(), message.payload.len()), ("id-3", 3));
    }
}
