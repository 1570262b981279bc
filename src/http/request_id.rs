//! A name for every request, in its answer, its log line and its errors.

use std::{fmt, time::UNIX_EPOCH};

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
        // AWS-LC's own generator: the system's would be a call for each request.
        let random = random_array().unwrap_or_default();
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
