//! The encryption context: what a message says of itself, authenticated and public.

use std::collections::{BTreeMap, btree_map};

use super::{Damage, SealError};
use crate::fault::Tamper;

/// Keys that begin so belong to the SDK.
const RESERVED: &str = "aws-crypto-";

/// Pairs of text, sorted by the UTF-8 bytes of the key (as `String` sorts).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EncryptionContext(BTreeMap<String, String>);

impl EncryptionContext {
    /// A context of those pairs.
    ///
    /// # Errors
    /// [`SealError::Context`] for a reserved or empty key, or an entry over 65,535 bytes.
    pub fn new<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, SealError> {
        let mut context = BTreeMap::new();
        for (key, value) in pairs {
            let (key, value) = (key.into(), value.into());
            if key.is_empty() {
                return Err(SealError::Context("a key is empty"));
            }
            if key.starts_with(RESERVED) {
                return Err(SealError::Context("keys beginning `aws-crypto-` are reserved"));
            }
            context.insert(key, value);
        }
        let context = Self(context);
        context.encode().map(|_| context)
    }

    /// The value under `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Every pair, in order.
    pub fn iter(&self) -> btree_map::Iter<'_, String, String> {
        self.0.iter()
    }

    /// How many pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The serialised form, which is what key providers authenticate: empty for
    /// an empty context, else a count and the pairs.
    ///
    /// # Errors
    /// [`SealError::Context`] when it is over 65,535 bytes.
    pub fn encode(&self) -> Result<Vec<u8>, SealError> {
        const SIZE: SealError = SealError::Context("it is over 65,535 bytes");
        let mut bytes = Vec::new();
        if self.0.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&u16::try_from(self.0.len()).map_err(|_| SIZE)?.to_be_bytes());
        for text in self.0.iter().flat_map(|(key, value)| [key, value]) {
            bytes.extend_from_slice(&u16::try_from(text.len()).map_err(|_| SIZE)?.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        if bytes.len() > usize::from(u16::MAX) { Err(SIZE) } else { Ok(bytes) }
    }

    /// Reads the serialised form back. Strict: what it takes, [`Self::encode`]
    /// writes again to the same bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let damage = |what: &str| Damage::new(Tamper::Header, format!("encryption context: {what}"));
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut rest = bytes;
        let mut take = |len: usize| -> Result<&[u8], Damage> {
            let (head, tail) = rest.split_at_checked(len).ok_or_else(|| damage("it ends early"))?;
            rest = tail;
            Ok(head)
        };
        let count = be16(take(2)?);
        if count == 0 {
            return Err(damage("a count of zero"));
        }
        let mut pairs: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..count {
            let mut text = || -> Result<String, Damage> {
                let len = be16(take(2)?);
                String::from_utf8(take(len)?.to_vec()).map_err(|_| damage("an entry isn't UTF-8"))
            };
            let (key, value) = (text()?, text()?);
            if key.starts_with(RESERVED) {
                return Err(damage("a key that begins `aws-crypto-`, which this suite has no use for"));
            }
            if pairs.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(damage("its keys are out of order or double"));
            }
            pairs.insert(key, value);
        }
        if rest.is_empty() { Ok(Self(pairs)) } else { Err(damage("bytes follow its last entry")) }
    }
}

impl<'a> IntoIterator for &'a EncryptionContext {
    type Item = (&'a String, &'a String);
    type IntoIter = btree_map::Iter<'a, String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn be16(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}
