//! One field of a secret that is a JSON object: read into text that wipes itself.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::secret::SecretText;

/// The text of a string, whole number or truth value; none of anything else.
pub(super) struct Field(pub(super) Option<SecretText>);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

fn text(value: impl ToString) -> Field {
    Field(Some(SecretText::new(value.to_string())))
}

impl<'de> Visitor<'de> for Reader {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, value: &str) -> Result<Field, E> {
        Ok(text(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Field, E> {
        Ok(text(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Field, E> {
        Ok(text(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Field, E> {
        Ok(text(value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        // What was written can't be told any more: 1.10 and 1.1 are one.
        Ok(Field(None))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field, E> {
        Ok(text(value))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }
}
