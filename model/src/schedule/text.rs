//! How the types of a schedule look in a manifest: durations, instants, one-or-many lists. For serde only.

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

/// A field that holds one value or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> From<OneOrMany<T>> for Vec<T> {
    fn from(values: OneOrMany<T>) -> Self {
        match values {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(values) => values,
        }
    }
}

/// `cron: "…"` or `cron: ["…", "…"]`.
pub(super) mod one_or_many {
    use super::{Deserialize, Deserializer, OneOrMany, Serialize, Serializer};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Vec<String>, D::Error> {
        OneOrMany::<String>::deserialize(input).map(Vec::from)
    }

    pub(in super::super) fn serialize<S: Serializer>(
        values: &[String],
        output: S,
    ) -> Result<S::Ok, S::Error> {
        match values {
            [one] => one.serialize(output),
            many => many.serialize(output),
        }
    }
}

/// `at: <instant>` or `at: [<instant>, …]`.
pub(super) mod instants {
    use super::{Deserialize, Deserializer, OneOrMany, Serializer, de, one_or_many};
    use crate::time::Timestamp;

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Vec<Timestamp>, D::Error> {
        let texts = Vec::from(OneOrMany::<String>::deserialize(input)?);
        texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
    }

    pub(in super::super) fn serialize<S: Serializer>(
        values: &[Timestamp],
        output: S,
    ) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = values.iter().map(Timestamp::to_string).collect();
        one_or_many::serialize(&texts, output)
    }
}

/// An optional instant.
pub(super) mod instant {
    use super::{Deserialize, Deserializer, Serialize, Serializer, de};
    use crate::time::Timestamp;

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(input)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in super::super) fn serialize<S: Serializer>(
        value: &Option<Timestamp>,
        output: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|at| at.to_string()).serialize(output)
    }
}

/// An optional duration of any length.
pub(super) mod duration {
    use super::{Deserialize, Deserializer, Serialize, Serializer, de};
    use crate::schedule::interval::{duration_text, parse_duration};
    use std::time::Duration;

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(input)?;
        text.map(|text| parse_duration(&text).map_err(de::Error::custom)).transpose()
    }

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in super::super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        output: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|duration| duration_text(duration).replace(' ', "")).serialize(output)
    }
}
