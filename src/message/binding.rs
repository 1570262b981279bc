//! Whose message it is: an id that is bound to vault, class and key.

use std::fmt;

use aws_lc_rs::digest::{self, SHA256};

use crate::secret::{NoRandomness, random_array};

/// Bytes of the random first half of an id.
pub const NONCE_LEN: usize = 16;
const LABEL: &[u8] = b"sealward-mid-v1\0";

/// A message's id: salt of its keys and part of every frame's additional data,
/// so that it can't be edited. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId([u8; 32]);

impl MessageId {
    /// A fresh id for the object `key` of `class` in `vault`:
    /// `nonce ‖ SHA-256(label ‖ nonce ‖ lp(vault) ‖ lp(class) ‖ lp(key))[0..16]`.
    /// Drawn after the data key is fixed.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn bound(vault: &str, class: &str, key: &str) -> Result<Self, NoRandomness> {
        Ok(Self::with_nonce(random_array()?, vault, class, key))
    }

    /// A fresh id that is bound to nothing, for messages outside any class.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn unbound() -> Result<Self, NoRandomness> {
        Ok(Self(random_array()?))
    }

    /// Whether this id is bound to that object.
    pub fn is_bound_to(&self, vault: &str, class: &str, key: &str) -> bool {
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&self.0[..NONCE_LEN]);
        *self == Self::with_nonce(nonce, vault, class, key)
    }

    /// The id's 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn with_nonce(nonce: [u8; NONCE_LEN], vault: &str, class: &str, key: &str) -> Self {
        let mut hash = digest::Context::new(&SHA256);
        hash.update(LABEL);
        hash.update(&nonce);
        for part in [vault, class, key] {
            // Names are at most 1,024 bytes; a longer one could never be stored,
            // and saturating keeps even then two names from sharing an id by length.
            let len = u16::try_from(part.len()).unwrap_or(u16::MAX);
            hash.update(&len.to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut id = [0; 32];
        id[..NONCE_LEN].copy_from_slice(&nonce);
        id[NONCE_LEN..].copy_from_slice(&hash.finish().as_ref()[..32 - NONCE_LEN]);
        Self(id)
    }
}

impl From<[u8; 32]> for MessageId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}
