//! What every door shares: the body of an answer, and what is known of the connection it goes to.

use std::{error::Error, time::Instant};

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

mod arriving;
pub mod connection;
pub mod desync;
mod pace;
pub mod path;
mod problem;
mod request_id;

pub use arriving::{Arriving, Broken, Meter, arriving};
pub use connection::{Connection, TlsInfo, Tunnel};
pub use pace::{Pace, PaceError, Paced};
pub use problem::problem;
pub use request_id::RequestId;

/// What counts a request's bytes, and counts it as under way while it is there: an extension of
/// the request, for rooms whose work outlives the answer.
#[derive(Clone)]
pub struct Held(pub Meter);

/// What an app's answer says of the way to it: an extension of the answer.
#[derive(Clone, Debug)]
pub struct Onwards {
    /// The target's address.
    pub target: String,
    /// The target's own status.
    pub status: u16,
    /// The trace it went on under.
    pub trace: Option<HeaderValue>,
    /// When the request went on.
    pub sent: Instant,
    /// When the answer's head came.
    pub answered: Instant,
}

/// Why a body ended before its end. The words are for the log; a client only sees that it was cut.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The body of every answer.
///
/// A body that yields an error ends its connection (HTTP/1) or its stream
/// (HTTP/2) without a clean end, so that nobody takes a part for the whole.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body of no bytes.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of these bytes; its length is known to the peer.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[test]
    fn lengths_are_known() {
        assert_eq!(empty().size_hint().exact(), Some(0));
        assert!(empty().is_end_stream());
        assert_eq!(full("four").size_hint().exact(), Some(4));
    }
}
