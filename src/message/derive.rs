//! From a data key and a message id to the keys of one message.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    constant_time,
    hkdf::{self, HKDF_SHA512, KeyType, Prk, Salt},
};

use super::{IV_LEN, MessageId, SUITE, SealError};
use crate::secret::Key256;

/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;
const KEY_LEN: usize = 32;

/// What one message's keys are derived from: HKDF-SHA-512, salt = message id,
/// input = the data key. Wiped on drop by AWS-LC.
pub struct MessageKeys(Prk);

/// An AES-256-GCM key.
pub(super) struct Cipher(LessSafeKey);

struct Len;

impl KeyType for Len {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

impl MessageKeys {
    /// The extraction, once a message.
    pub fn new(data_key: &Key256, id: &MessageId) -> Self {
        Self(Salt::new(HKDF_SHA512, id.as_bytes()).extract(data_key.expose()))
    }

    pub(super) fn encryption(&self) -> Result<Cipher, SealError> {
        self.cipher(&[&SUITE.to_be_bytes(), b"DERIVEKEY"])
    }

    pub(super) fn metadata(&self) -> Result<Cipher, SealError> {
        self.cipher(&[b"sealward-metadata-v1"])
    }

    pub(super) fn commitment(&self) -> Result<[u8; KEY_LEN], SealError> {
        let mut commitment = [0; KEY_LEN];
        self.expand(&[b"COMMITKEY"])?.fill(&mut commitment).map_err(|_| SealError::Cipher)?;
        Ok(commitment)
    }

    /// Whether the data key commits to `claimed`, in constant time.
    pub(super) fn commits_to(&self, claimed: &[u8; KEY_LEN]) -> bool {
        self.commitment().is_ok_and(|own| constant_time::verify_slices_are_equal(&own, claimed).is_ok())
    }

    fn cipher(&self, info: &[&[u8]]) -> Result<Cipher, SealError> {
        let mut key = zeroize::Zeroizing::new([0; KEY_LEN]);
        self.expand(info)?.fill(&mut key[..]).map_err(|_| SealError::Cipher)?;
        let key = UnboundKey::new(&AES_256_GCM, &key[..]).map_err(|_| SealError::Cipher)?;
        Ok(Cipher(LessSafeKey::new(key)))
    }

    fn expand<'a>(&'a self, info: &'a [&'a [u8]]) -> Result<hkdf::Okm<'a, Len>, SealError> {
        self.0.expand(info, Len).map_err(|_| SealError::Cipher)
    }
}

impl Cipher {
    /// Seals `bytes` in place and returns the tag.
    pub(super) fn seal(&self, iv: [u8; IV_LEN], aad: &[u8], bytes: &mut [u8]) -> Result<[u8; TAG_LEN], SealError> {
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::from(aad), bytes)
            .map_err(|_| SealError::Cipher)?;
        let mut own = [0; TAG_LEN];
        own.copy_from_slice(tag.as_ref());
        Ok(own)
    }

    /// Opens `bytes`, ciphertext then tag, in place. `None`: it doesn't verify,
    /// and what `bytes` holds then is nobody's plaintext.
    pub(super) fn open<'a>(&self, iv: [u8; IV_LEN], aad: &[u8], bytes: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.0.open_in_place(Nonce::assume_unique_for_key(iv), Aad::from(aad), bytes).ok()
    }
}
