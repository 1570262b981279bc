//! A name for every request, in its answer, its log line and its errors.

use std::{cell::Cell, fmt, time::UNIX_EPOCH};

use http::HeaderValue;
use uuid::{Builder, Uuid};

use crate::secret::random_array;

/// A fresh id: a UUID of version 7, so that ids sort by time.
#[derive(Clone, Copy, Debug)]
pub struct RequestId(Uuid);

impl RequestId {
    /// The next id.
    #[allow(clippy::new_without_default)] // each one is another
    pub fn new() -> Self {
        thread_local! {
            /// Random once, and then counted on (RFC 9562, section 6.2): ids differ, and are no secret.
            static NEXT: Cell<u128> = Cell::new(u128::from_be_bytes(random_array().unwrap_or_default()));
        }
        let next = NEXT.get().wrapping_add(1);
        NEXT.set(next);
        let mut random = [0; 10];
        random.copy_from_slice(&next.to_be_bytes()[6..]);
        let since = UNIX_EPOCH.elapsed().unwrap_or_default();
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or_default();
        Self(Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
    }

    /// For `x-request-id`.
    pub fn to_header(self) -> HeaderValue {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        // Hyphenated hex is always a header value.
        HeaderValue::from_str(self.0.hyphenated().encode_lower(&mut text))
            .unwrap_or(HeaderValue::from_static("unknown"))
    }

    /// For `x-amzn-trace-id`: it has the time and the randomness that are wanted, and is no secret.
    pub fn to_trace(self) -> HeaderValue {
        let id = self.0.as_u128();
        let seconds = (id >> 80) / 1000;
        // The hexadecimal digits of both, one behind the other.
        let both = Uuid::from_u128(seconds << 96 | id & ((1 << 96) - 1));
        let (mut digits, mut text) = ([0; uuid::fmt::Simple::LENGTH], *b"Root=1-00000000-000000000000000000000000");
        let (time, rest) = both.simple().encode_lower(&mut digits).as_bytes().split_at(8);
        text[7..15].copy_from_slice(time);
        text[16..].copy_from_slice(rest);
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
