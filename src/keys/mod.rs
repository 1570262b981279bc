//! Issues and unwraps data keys.
//!
//! A [`KeyProvider`] wraps under keys it never shows; [`DataKeys`] stands before
//! it and shares data keys within their bounds, so that many messages cost one
//! call. Every class has its own of both: what a class may open is part of what
//! makes an object the class's own.

use std::fmt;

use async_trait::async_trait;

use crate::{
    message::{EncryptedDataKey, EncryptionContext},
    secret::Key256,
};

mod breaker;
mod cache;
mod flight;
pub mod kms;
pub mod local;
mod wraps;

pub use cache::{DataKeys, Lease, OpenFailure, Opened, Unwrapped};

/// Wraps and unwraps data keys for one class.
#[async_trait]
pub trait KeyProvider: Send + Sync + 'static {
    /// A fresh data key, wrapped under the class's key, bound to `context`.
    async fn generate(&self, context: &EncryptionContext) -> Result<Generated, KeyFailure>;

    /// The configured name of the key that wrapped `data_key`, if it is one that
    /// this class may open. Only such a key is ever tried.
    fn recognise(&self, data_key: &EncryptedDataKey) -> Option<&str>;

    /// Whether `data_key` is wrapped under the key that this class seals under now.
    /// Who can't tell says no.
    fn is_current(&self, _data_key: &EncryptedDataKey) -> bool {
        false
    }

    /// Unwraps `data_key`, which [`Self::recognise`] knew, bound to `context`.
    async fn unwrap(&self, data_key: &EncryptedDataKey, context: &EncryptionContext) -> Result<Key256, KeyFailure>;

    /// What the key service says of the class's own key; `None` where there is no
    /// such service to ask.
    async fn standing(&self) -> Option<Result<KeyStanding, KeyFailure>> {
        None
    }

    /// Whether the last that was asked of it came to no answer.
    fn is_away(&self) -> bool {
        false
    }
}

/// What a key service says of a key.
#[derive(Clone, Debug)]
pub struct KeyStanding {
    /// The key as configured.
    pub name: String,
    /// Its ARN, whatever it was asked by.
    pub arn: String,
    /// What keeps it from being used, if anything does.
    pub fault: Option<String>,
}

/// A data key, fresh.
#[derive(Debug)]
pub struct Generated {
    /// The key itself.
    pub key: Key256,
    /// The same, wrapped, once for each who may open.
    pub encrypted: Vec<EncryptedDataKey>,
    /// The configured name of the key it was wrapped under first.
    pub name: String,
}

/// Why a provider gave no key. Texts are for the log; they hold no key bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFailure {
    /// This wrapped key doesn't open, or we may not open it. Says nothing of others.
    Refused(String),
    /// The provider is away or overloaded; trying later makes sense.
    Unavailable(String),
    /// The provider doesn't let us; says nothing of the data key.
    Denied(String),
    /// The provider is spent or misconfigured, until somebody mends it.
    Broken(String),
}

impl fmt::Display for KeyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(detail) => write!(f, "the data key does not open: {detail}"),
            Self::Unavailable(detail) => write!(f, "the key provider is away: {detail}"),
            Self::Denied(detail) => write!(f, "the key provider refused us: {detail}"),
            Self::Broken(detail) => write!(f, "the key provider can't be used: {detail}"),
        }
    }
}

impl std::error::Error for KeyFailure {}

#[cfg(test)]
mod tests;
