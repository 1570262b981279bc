//! A data key as it stands in a header: wrapped, for one reader of several.

use std::fmt;

/// One wrapped data key, as its provider understands it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EncryptedDataKey {
    /// Who wrapped it: `aws-kms`, or a local keyring's namespace.
    pub provider: Vec<u8>,
    /// Under which key: a key ARN, or a local key's name with its wrapping iv.
    pub info: Vec<u8>,
    /// The wrapped key.
    pub ciphertext: Vec<u8>,
}

impl EncryptedDataKey {
    /// Bytes of the serialised form.
    pub fn encoded_len(&self) -> usize {
        6 + self.provider.len() + self.info.len() + self.ciphertext.len()
    }

    pub(super) fn fits(&self) -> bool {
        self.fields().into_iter().all(|field| u16::try_from(field.len()).is_ok())
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        for field in self.fields() {
            // `fits` was asked before.
            #[allow(clippy::cast_possible_truncation)]
            into.extend_from_slice(&(field.len() as u16).to_be_bytes());
            into.extend_from_slice(field);
        }
    }

    fn fields(&self) -> [&[u8]; 3] {
        [&self.provider, &self.info, &self.ciphertext]
    }
}

impl fmt::Debug for EncryptedDataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedDataKey")
            .field("provider", &String::from_utf8_lossy(&self.provider))
            .field("info", &self.info.escape_ascii().to_string())
            .finish_non_exhaustive()
    }
}
