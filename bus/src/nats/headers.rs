//! Headers as the client wants them, and as we do.

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};

use crate::error::BusError;
use crate::order::Publication;
use crate::wire::headers::{self, Headers, REPEATED};
use crate::wire::order::each_header;

/// The headers of a publication, made at once in the client's form: there are a dozen in each.
pub(super) fn publication_headers(publication: &Publication) -> Result<HeaderMap, BusError> {
    let mut map = header_map(&headers::users(&publication.order.headers))?;
    let mut bad = None;
    let mut say = |name: &'static str, value: String| {
        if value.contains(['\r', '\n']) {
            bad = Some(name);
        } else {
            map.insert(HeaderName::from_static(name), value);
        }
    };
    each_header(&publication.order, &mut say);
    say(headers::MESSAGE_ID, publication.message_id.clone());
    bad.map_or(Ok(map), |name| Err(refused(name)))
}

fn refused(name: &str) -> BusError {
    BusError::Refused(format!("header {name:?} can't be sent"))
}

/// Our headers as the client wants them.
pub(super) fn header_map(headers: &Headers) -> Result<HeaderMap, BusError> {
    let mut map = HeaderMap::new();
    for (name, values) in headers {
        let key: HeaderName = name.parse().map_err(|_| refused(name))?;
        if name.is_empty() {
            return Err(refused(name));
        }
        for value in values.split(REPEATED) {
            let value: HeaderValue = value.parse().map_err(|_| refused(name))?;
            map.append(key.clone(), value);
        }
    }
    Ok(map)
}

/// A message's headers as we want them.
pub(super) fn headers_of(message: &Message) -> Headers {
    let Some(map) = &message.headers else { return Headers::new() };
    let joined = |values: &Vec<HeaderValue>| {
        let mut joined = String::new();
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                joined.push(REPEATED);
            }
            joined.push_str(value.as_str());
        }
        joined
    };
    let text = |name: &HeaderName| AsRef::<str>::as_ref(name).to_owned();
    map.iter().map(|(name, values)| (text(name), joined(values))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::id::Revision;
    use model::retry::RetryPolicy;
    use model::run::Generation;
    use model::time::Timestamp;

    use super::*;
    use crate::order::{Order, WorkKind};
    use crate::wire::encode_publication;

    fn publication(user: (&str, &str)) -> Publication {
        let order = Order {
            run_id: "billing/nightly@2026-11-22T06:45:00Z".parse().unwrap(),
            queue: "billing/reports".parse().unwrap(),
            kind: WorkKind::Payload,
            revision: Revision(17),
            generation: Generation(0),
            due_at: Timestamp::from_ms(0),
            attempt_base: 0,
            timeout: Duration::from_secs(600),
            retry: RetryPolicy::default(),
            start_by: Some(Timestamp::from_ms(1_000)),
            deadline: Some(Timestamp::from_ms(2_000)),
            headers: [(user.0.to_owned(), user.1.to_owned())].into(),
        };
        Publication { order, message_id: "id".into(), payload: Default::default() }
    }

    #[test]
    fn a_publication_has_the_headers_of_its_encoding() {
        let publication = publication(("traceparent", "00-1\n00-2"));
        let encoded = header_map(&encode_publication(&publication)).unwrap();
        assert_eq!(publication_headers(&publication).unwrap(), encoded);
    }

    #[test]
    fn what_cannot_be_a_header_is_refused() {
        let mut bad = publication(("a b", "x"));
        assert!(matches!(publication_headers(&bad), Err(BusError::Refused(text)) if text.contains("a b")));
        bad.order.headers.clear();
        bad.message_id = "a\r\nb".into();
        assert!(
            matches!(publication_headers(&bad), Err(BusError::Refused(text)) if text.contains("Nats-Msg-Id"))
        );
    }
}
