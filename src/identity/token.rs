//! The shape of a token, and the key that hashes tokens and signs links.

use std::{fmt, time::Duration};

use aws_lc_rs::{constant_time, hmac};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Grant, Link, TokenRecord};
use crate::secret::{Key256, NoRandomness, SecretText, random_array};

/// What a token begins with, so that a leaked one can be searched for.
const PREFIX: &str = "swd_";
const ID_LEN: usize = 12;

/// A bearer token: `swd_<id>_<secret>`, the id 12 characters, the secret 256 bits.
pub struct Token {
    id: String,
    secret: SecretText,
}

/// The key behind the hashes and signatures of one token store.
pub struct TokenKey {
    hash: hmac::Key,
    sign: hmac::Key,
}

impl Token {
    /// A fresh token.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn fresh() -> Result<Self, NoRandomness> {
        let id: [u8; ID_LEN / 2] = random_array()?;
        let id = hex::encode(id);
        let secret = URL_SAFE_NO_PAD.encode(Key256::random()?.expose());
        Ok(Self { id, secret: SecretText::new(secret) })
    }

    /// Reads a token as a client sends it.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let plain = id.len() == ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (plain && secret.len() == 43).then(|| Self { id: id.to_owned(), secret: SecretText::new(secret.to_owned()) })
    }

    /// The public half.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token, to be shown once.
    pub fn expose(&self) -> SecretText {
        SecretText::new(format!("{PREFIX}{}_{}", self.id, self.secret.expose()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// From the 32 bytes that a store keeps.
    pub fn new(key: &Key256) -> Self {
        let master = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        // One key, one use: both are derived, neither is the other.
        let derive = |label: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&master, label).as_ref());
        Self { hash: derive(b"sealward-token-hash-v1"), sign: derive(b"sealward-link-v1") }
    }

    /// A fresh token called `name`, good for `lifetime` or for ever, and what is kept of it.
    ///
    /// # Errors
    /// When the system gives no randomness, or no time.
    pub fn issue(
        &self,
        name: &str,
        grant: Grant,
        lifetime: Option<Duration>,
    ) -> Result<(SecretText, TokenRecord), String> {
        let token = Token::fresh().map_err(|error| error.to_string())?;
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).map_err(|error| error.to_string())?;
        let record = TokenRecord {
            name: name.to_owned(),
            id: token.id().to_owned(),
            hash: self.hash(&token),
            created: now.format(&Rfc3339).map_err(|error| error.to_string())?,
            expires: lifetime.map(|lifetime| super::unix_now() + lifetime.as_secs()),
            grant,
        };
        Ok((token.expose(), record))
    }

    /// The hash of `token` that is kept.
    pub fn hash(&self, token: &Token) -> String {
        STANDARD.encode(hmac::sign(&self.hash, token.secret.expose().as_bytes()).as_ref())
    }

    /// Whether `record` is that of `token`; in constant time.
    pub fn matches(&self, token: &Token, record: &TokenRecord) -> bool {
        constant_time::verify_slices_are_equal(self.hash(token).as_bytes(), record.hash.as_bytes()).is_ok()
            && token.id == record.id
    }

    /// The signature of a link.
    pub(super) fn signature(&self, message: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.sign, message).as_ref())
    }

    /// Whether `link` was signed here for that object; in constant time.
    pub fn verifies(&self, link: &Link, class: &str, key: &str) -> bool {
        let signature = self.signature(&Link::message(class, key, &link.by, link.expires));
        constant_time::verify_slices_are_equal(signature.as_bytes(), link.signature.as_bytes()).is_ok()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(redacted)")
    }
}
