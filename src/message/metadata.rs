//! What is said of an object, sealed beside it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{Damage, Header, IV_LEN, MessageKeys, SealError, TAG_LEN};
use crate::{
    fault::Tamper,
    secret::{SecretText, random_array},
};

/// Metadata as it stands in a store: base64 of `nonce[12] ‖ ciphertext ‖ tag[16]`.
pub type SealedMetadata = String;

/// Seals `plaintext` beside the message of `header`, under a key of its own and
/// a random nonce.
///
/// # Errors
/// [`SealError`] when there is no randomness.
pub fn seal_metadata(keys: &MessageKeys, header: &Header, plaintext: &[u8]) -> Result<SealedMetadata, SealError> {
    let nonce: [u8; IV_LEN] = random_array()?;
    let mut bytes = Vec::with_capacity(IV_LEN + plaintext.len() + TAG_LEN);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(plaintext);
    let tag = keys.metadata()?.seal(nonce, &aad(header), &mut bytes[IV_LEN..])?;
    bytes.extend_from_slice(&tag);
    Ok(STANDARD.encode(bytes))
}

/// Opens what [`seal_metadata`] made beside the same message.
///
/// # Errors
/// [`Damage`] when it is anything else.
pub fn open_metadata(keys: &MessageKeys, header: &Header, sealed: &str) -> Result<SecretText, Damage> {
    let damage = |what: &str| Damage::new(Tamper::Metadata, format!("the sealed metadata {what}"));
    // Opened in place: wiped, for the plaintext stands in it until then.
    let mut bytes = Zeroizing::new(STANDARD.decode(sealed).map_err(|_| damage("isn't base64"))?);
    let (nonce, rest) = bytes.split_at_mut_checked(IV_LEN).ok_or_else(|| damage("is cut short"))?;
    let mut iv = [0; IV_LEN];
    iv.copy_from_slice(nonce);
    let cipher = keys.metadata().map_err(|_| damage("has no key"))?;
    let plaintext = cipher.open(iv, &aad(header), rest).ok_or_else(|| damage("does not verify"))?;
    let text = std::str::from_utf8(plaintext).map_err(|_| damage("isn't UTF-8"))?;
    Ok(SecretText::new(text.to_owned()))
}

/// Message id ‖ SHA-256 of the whole header.
fn aad(header: &Header) -> Vec<u8> {
    let mut aad = header.id().as_bytes().to_vec();
    aad.extend_from_slice(digest(&SHA256, header.as_bytes()).as_ref());
    aad
}
