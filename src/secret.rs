//! Bytes that wipe themselves and print as redacted.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A 256-bit key. Boxed, so that a move copies a pointer and the bytes are
/// wiped in the one place they ever lay in.
pub struct Key256(Box<[u8; 32]>);

impl Key256 {
    /// A fresh key from the operating system's generator, by way of AWS-LC.
    ///
    /// # Errors
    /// When the generator fails, which ends whatever wanted the key.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut key = Box::new([0; 32]);
        fill_random(&mut key[..])?;
        Ok(Self(key))
    }

    /// Takes a key out of `bytes`, which must be 32 long; the caller's copy is
    /// the caller's to wipe.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Box::new([0; 32]);
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    /// The key's bytes, for the one cryptographic call that needs them.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Key256 {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key256(redacted)")
    }
}

/// Text that must not be printed: a token, a password, a private key's PEM.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes `text` over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system's random generator failed")
    }
}

impl std::error::Error for NoRandomness {}

/// Fills `bytes` from the system's generator.
///
/// # Errors
/// When the generator fails.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| NoRandomness)
}

/// `usual`, a quarter more or less, so that replicas don't ask as one.
pub fn jittered(usual: std::time::Duration) -> std::time::Duration {
    // Without randomness there is still the time itself.
    let random: [u8; 2] = random_array().unwrap_or([128, 0]);
    usual.mul_f64(0.75 + f64::from(u16::from_be_bytes(random)) / 131_072.0)
}

/// `N` bytes from the system's generator: nonces, names, identifiers.
///
/// # Errors
/// When the generator fails.
pub fn random_array<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}
