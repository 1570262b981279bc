//! Signed links: one object, readable by whoever has the link, until a time.

use std::time::Duration;

use super::{Caller, token::TokenKey, unix_now};
use crate::fault::Fault;

/// The longest a link is good for: 7 days.
pub const MAX_LINK_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a link carries in its query: `expires`, `by` and `signature`.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// Seconds since 1970.
    pub expires: u64,
    /// The id of the token that signed: its revocation ends the link too.
    pub by: String,
    /// HMAC-SHA-256, base64url.
    pub signature: String,
}

impl Link {
    /// Signs a link to the object `key` of `class` for `age`.
    ///
    /// # Errors
    /// 400 for an age of nothing or over [`MAX_LINK_AGE`], 403 for a caller without a token.
    pub fn sign(store_key: &TokenKey, caller: &Caller, class: &str, key: &str, age: Duration) -> Result<Self, Fault> {
        if age.is_zero() || age > MAX_LINK_AGE {
            return Err(Fault::bad_request(format!("expires is 1 to {} seconds", MAX_LINK_AGE.as_secs())));
        }
        let by = caller.token.clone().ok_or_else(|| {
            Fault::new(crate::fault::Kind::Forbidden, "links are signed on behalf of an access token")
        })?;
        let expires = unix_now() + age.as_secs();
        let signature = store_key.signature(&Self::message(class, key, &by, expires));
        Ok(Self { expires, by, signature })
    }

    /// The link's query.
    pub fn query(&self) -> String {
        format!("expires={}&by={}&signature={}", self.expires, self.by, self.signature)
    }

    /// What is signed: every part with its length, so that no two links share a text.
    pub(super) fn message(class: &str, key: &str, by: &str, expires: u64) -> Vec<u8> {
        let mut message = b"GET".to_vec();
        for part in [class, key, by] {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part.as_bytes());
        }
        message.extend_from_slice(&expires.to_be_bytes());
        message
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("by", &self.by).field("expires", &self.expires).finish_non_exhaustive()
    }
}
