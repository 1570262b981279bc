//! Private keys under a passphrase, as ACM exports them.

use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, SecretDocument};
use zeroize::Zeroizing;

use crate::secret::{NoRandomness, random_array};

/// What a passphrase of ours has, in characters: 190 bits.
const LENGTH: usize = 32;

/// A fresh passphrase: letters and digits alone, since ACM takes no `#`, `$` or `%`.
///
/// # Errors
/// When the system gives no randomness.
pub(super) fn passphrase() -> Result<Zeroizing<String>, NoRandomness> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut phrase = Zeroizing::new(String::with_capacity(LENGTH));
    while phrase.len() < LENGTH {
        let random: Zeroizing<[u8; LENGTH]> = Zeroizing::new(random_array()?);
        // Of 256, the last eight would make some letters likelier.
        let letters = random.iter().filter(|byte| usize::from(**byte) < 4 * LETTERS.len());
        for byte in letters.take(LENGTH - phrase.len()) {
            phrase.push(char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        }
    }
    Ok(phrase)
}

/// The key in `pem` (PKCS#8, PBES2 of RFC 8018 with PBKDF2 over HMAC-SHA-1 or SHA-2),
/// as PEM without a passphrase. `None` for anything else, and for another passphrase:
/// which of the two it is says nothing that helps.
pub(super) fn decrypted(pem: &str, passphrase: &str) -> Option<Zeroizing<String>> {
    let (label, sealed) = SecretDocument::from_pem(pem).ok()?;
    if label != "ENCRYPTED PRIVATE KEY" {
        return None;
    }
    let key = EncryptedPrivateKeyInfoRef::try_from(sealed.as_bytes()).ok()?.decrypt(passphrase).ok()?;
    key.to_pem("PRIVATE KEY", LineEnding::LF).ok()
}

#[cfg(test)]
mod tests {
    use super::{super::prove, *};

    const CERT: &str = include_str!("../../tests/fixtures/not-secret-acm-cert.pem");
    /// The way of AWS's own sample: HMAC-SHA-1, which isn't written down, being the default.
    const SHA1: &str = include_str!("../../tests/fixtures/not-secret-acm-key-hmac-sha1.pem");
    const SHA256: &str = include_str!("../../tests/fixtures/not-secret-acm-key-hmac-sha256.pem");

    #[test]
    fn both_ways_of_an_export_are_opened() {
        for sealed in [SHA1, SHA256] {
            let key = decrypted(sealed, "notasecret").expect("opens");
            let proved = prove::prove("cert", CERT.as_bytes(), "key", key.as_bytes()).expect("a pair");
            assert_eq!(proved.names, ["fixture.example"]);
            assert!(decrypted(sealed, "another").is_none());
            let broken = sealed.replacen('M', "N", 1);
            assert!(decrypted(&broken, "notasecret").is_none());
        }
        assert!(decrypted(CERT, "notasecret").is_none());
        assert!(decrypted("", "").is_none());
    }

    #[test]
    fn passphrases_are_fresh_and_of_what_acm_takes() {
        let phrases: std::collections::BTreeSet<_> =
            (0..100).map(|_| passphrase().expect("random").to_string()).collect();
        assert_eq!(phrases.len(), 100);
        assert!(
            phrases.iter().all(|phrase| phrase.len() == LENGTH && phrase.bytes().all(|b| b.is_ascii_alphanumeric()))
        );
    }
}
