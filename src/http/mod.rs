//! What every door shares: the body of an answer, and what is known of the connection it goes to.

use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

mod arriving;
pub mod connection;
mod pace;
pub mod path;
mod problem;
mod request_id;

pub use arriving::{Arriving, Broken, arriving};
pub use connection::{Connection, TlsInfo, Tunnel};
pub use pace::{Pace, PaceError, Paced};
pub use problem::problem;
pub use request_id::RequestId;

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
