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

    /// 96 bits of it, the random ones among them.
    pub fn low_bits(self) -> u128 {
        self.0.as_u128() & ((1 << 96) - 1)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
