//! The sealed format: plaintext in, frames out, and back; whole or by range.
//!
//! A sealed object is one AWS Encryption SDK message, format version 2, suite
//! `0x0478`, framed; `docs/object-format.md` has every byte of it. This room is
//! pure: it works on bytes handed in, in place, and knows no I/O, no clock, no
//! network and no AWS.
//!
//! * [`Header`] is parsed under [`Caps`], and believed only once an [`Opener`]
//!   has been made of it, which takes the data key.
//! * [`Sealer`] seals frames in order, each once; [`FrameWriter`] lays plaintext
//!   straight to where it is sealed.
//! * [`Opener`] verifies single frames, in any order; [`StreamOpener`] a whole
//!   message, in whatever pieces it comes.
//! * [`Layout`] is the arithmetic between plaintext and sealed positions.

mod binding;
mod context;
mod data_key;
mod derive;
mod frame;
mod header;
mod layout;
mod metadata;
mod open;
mod seal;
mod stream;

pub use binding::{MessageId, NONCE_LEN};
pub use context::EncryptionContext;
pub use data_key::EncryptedDataKey;
pub use derive::{MessageKeys, TAG_LEN};
pub use frame::{FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, IV_LEN};
pub use header::{Caps, Draft, Header};
pub use layout::{Extent, FrameRange, Layout};
pub use metadata::{SealedMetadata, open_metadata, seal_metadata};
pub use open::Opener;
pub use seal::{FrameWriter, Sealed, Sealer};
pub use stream::StreamOpener;

use std::fmt;

use crate::fault::Tamper;

/// The algorithm suite: AES-256-GCM, HKDF-SHA-512, key commitment, no signature.
pub const SUITE: u16 = 0x0478;
/// The message format version.
pub const VERSION: u8 = 2;
/// The least and the granularity of a frame length that we write, in bytes.
pub const FRAME_LENGTH_STEP: u32 = 4 << 10;
/// The largest frame length that we write or read, in bytes.
pub const MAX_FRAME_LENGTH: u32 = 4 << 20;
/// The frame length where nothing else is said, in bytes.
pub const DEFAULT_FRAME_LENGTH: u32 = 256 << 10;

/// Why bytes are not a message we believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The kind of it, for the metric.
    pub reason: Tamper,
    /// What exactly, for the log. Never key or plaintext bytes.
    pub what: String,
}

impl Damage {
    pub(crate) fn new(reason: Tamper, what: impl Into<String>) -> Self {
        Self { reason, what: what.into() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Damage {}

/// Why something could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The context has a reserved, empty or overlong entry, or too many.
    Context(&'static str),
    /// No data key, or too many, or a field of one over 65,535 bytes.
    DataKeys,
    /// The header would be over [`Caps::header`] of a reader with the default caps.
    HeaderSize,
    /// The frame length is zero or over the cap.
    FrameLength,
    /// The message has more frames than sequence numbers (2^32 − 2).
    TooLong,
    /// The cipher refused, which AES-GCM does for lengths no buffer here has.
    Cipher,
    /// The system gave no randomness.
    Randomness,
    /// The metadata is larger than the store keeps beside an object.
    MetadataSize,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context(why) => write!(f, "the encryption context can't be used: {why}"),
            Self::DataKeys => f.write_str("a message takes 1 to 16 data keys with fields of at most 65,535 bytes"),
            Self::HeaderSize => f.write_str("the context and the data keys make a header over 64 KiB"),
            Self::FrameLength => write!(f, "a frame length is 1 to {MAX_FRAME_LENGTH} bytes"),
            Self::TooLong => f.write_str("the message is longer than its frame length allows"),
            Self::Cipher => f.write_str("the cipher refused"),
            Self::Randomness => f.write_str("the system's random generator failed"),
            Self::MetadataSize => f.write_str("the metadata is larger than can be kept beside an object"),
        }
    }
}

impl std::error::Error for SealError {}

impl From<crate::secret::NoRandomness> for SealError {
    fn from(_: crate::secret::NoRandomness) -> Self {
        Self::Randomness
    }
}

#[cfg(test)]
mod tests;
