//! Session tickets that replicas share: any of them resumes what any other began.
//!
//! Their keys come out of one secret, a new one for each slice of time, so that nothing
//! has to be handed round and a key is gone from use by itself. TLS 1.3 tickets carry no
//! key that would open what was said before them: each resumption agrees on a fresh one.

use std::{fmt, path::Path, pin::Pin, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};
use rustls::server::ProducesTickets;

use super::bundle::SecretSource;
use crate::secret::{SecretText, random_array};

/// The least a secret may have, and the most that is read; bytes.
const LEAST: u64 = 32;
const MOST: u64 = 4096;
/// How long one key is written with, in seconds. It is read with for as long again,
/// and one slice early, for replicas whose clocks go ahead.
const SLICE: u64 = 6 * 3600;
/// What keys of other uses of one secret are told apart by.
const SALT: &[u8] = b"sealward tls tickets v1";

/// Seals and opens tickets under keys of one secret.
pub struct SharedTickets {
    secrets: ArcSwap<Secrets>,
    now: fn() -> u64,
}

/// What keys come out of.
struct Secrets {
    current: Prk,
    /// Opened with alone: what other replicas, and this one before, wrote.
    previous: Option<Prk>,
}

/// Keeps tickets true to a secret that is followed; never ends by itself.
pub type Follow = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why a secret is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSecret(String);

impl SharedTickets {
    /// Tickets under the secret in the file at `path`: all of its bytes.
    ///
    /// # Errors
    /// [`NoSecret`] names the file and the mend.
    pub fn of_file(path: &Path) -> Result<Arc<Self>, NoSecret> {
        let no = |what: String| NoSecret(format!("{}: {what}", path.display()));
        let length = std::fs::metadata(path).map_err(|error| no(error.to_string()))?.len();
        if !(LEAST..=MOST).contains(&length) {
            return Err(no(too_short(length)));
        }
        let secret = std::fs::read(path).map(zeroize::Zeroizing::new).map_err(|error| no(error.to_string()))?;
        Ok(Arc::new(Self::new(&secret, None, slice)))
    }

    /// Tickets under `secret`, or a field of it, and what follows it. A new version is
    /// written with at once; the one before still opens what was written with it.
    ///
    /// # Errors
    /// [`NoSecret`] names the secret and the mend.
    pub fn of_secret(
        mut secret: Box<dyn SecretSource>,
        field: Option<String>,
    ) -> Result<(Arc<Self>, Follow), NoSecret> {
        let (current, previous) = read(secret.as_ref(), field.as_deref())?;
        let mut written = current.clone();
        let previous = previous.as_ref().map(|previous| previous.expose().as_bytes());
        let tickets = Arc::new(Self::new(current.expose().as_bytes(), previous, slice));
        let followed = Arc::clone(&tickets);
        let follow = async move {
            loop {
                secret.changed().await;
                match read(secret.as_ref(), field.as_deref()) {
                    // Another field of it has changed.
                    Ok((current, _)) if current.expose() == written.expose() => {}
                    Ok((current, previous)) => {
                        followed.replace(current.expose().as_bytes(), previous.as_ref());
                        written = current;
                    }
                    Err(error) => tracing::warn!("session tickets keep their older secret: {error}"),
                }
            }
        };
        Ok((tickets, Box::pin(follow)))
    }

    fn new(current: &[u8], previous: Option<&[u8]>, now: fn() -> u64) -> Self {
        let secrets = Secrets { current: extract(current), previous: previous.map(extract) };
        Self { secrets: ArcSwap::from_pointee(secrets), now }
    }

    /// Writes with `current` from now on, and reads with `previous` too, or with what was
    /// written with so far where that isn't told.
    fn replace(&self, current: &[u8], previous: Option<&SecretText>) {
        let before = self.secrets.load();
        let previous =
            previous.map_or_else(|| before.current.clone(), |previous| extract(previous.expose().as_bytes()));
        self.secrets.store(Arc::new(Secrets { current: extract(current), previous: Some(previous) }));
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // One that is written at a slice's end is still read for the whole of the next.
        u32::try_from(SLICE).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let slice = (self.now)();
        let nonce: [u8; NONCE_LEN] = random_array().ok()?;
        let mut sealed = plain.to_vec();
        let aad = Aad::from(slice.to_be_bytes());
        key(&self.secrets.load().current, slice)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .ok()?;
        Some([&slice.to_be_bytes()[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (slice, rest) = ticket.split_first_chunk::<8>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (slice, now) = (u64::from_be_bytes(*slice), (self.now)());
        if slice.abs_diff(now) > 1 {
            return None;
        }
        let secrets = self.secrets.load();
        std::iter::once(&secrets.current).chain(&secrets.previous).find_map(|secret| {
            let mut opened = sealed.to_vec();
            let (aad, nonce) = (Aad::from(slice.to_be_bytes()), Nonce::assume_unique_for_key(*nonce));
            let length = key(secret, slice)?.open_in_place(nonce, aad, &mut opened).ok()?.len();
            opened.truncate(length);
            Some(opened)
        })
    }
}

fn extract(secret: &[u8]) -> Prk {
    Salt::new(HKDF_SHA256, SALT).extract(secret)
}

fn key(secret: &Prk, slice: u64) -> Option<LessSafeKey> {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let info = slice.to_be_bytes();
    let mut key = zeroize::Zeroizing::new([0; 32]);
    secret.expand(&[&info], Length).ok()?.fill(&mut *key).ok()?;
    UnboundKey::new(&AES_256_GCM, &*key).ok().map(LessSafeKey::new)
}

/// The secret's current value, and the one before where it would do.
fn read(secret: &dyn SecretSource, field: Option<&str>) -> Result<(SecretText, Option<SecretText>), NoSecret> {
    let no = |what: String| NoSecret(format!("secret `{}` {what}", secret.name()));
    let fits = |text: &SecretText| (LEAST..=MOST).contains(&(text.expose().len() as u64));
    let current = secret.text(field).map_err(&no)?;
    if !fits(&current) {
        return Err(no(format!("is no secret for tickets: {}", too_short(current.expose().len() as u64))));
    }
    Ok((current, secret.previous(field).filter(fits)))
}

fn too_short(length: u64) -> String {
    format!("{length} bytes are no secret; make one with `openssl rand -out FILE 32`, the same for every replica")
}

/// The slice of time that it is now.
fn slice() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() / SLICE
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTickets").finish_non_exhaustive()
    }
}

impl fmt::Display for NoSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoSecret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_open_each_others_tickets_for_a_slice_and_no_longer() {
        let at = |now: fn() -> u64| SharedTickets::new(&[7; 32], None, now);
        let ticket = at(|| 100).encrypt(b"a session").expect("sealed");
        assert!(!ticket.windows(9).any(|window| window == b"a session"));
        for now in [(|| 100) as fn() -> u64, || 101, || 99] {
            assert_eq!(at(now).decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        }
        for now in [(|| 102) as fn() -> u64, || 98, || u64::MAX] {
            assert_eq!(at(now).decrypt(&ticket), None);
        }
        assert_eq!(SharedTickets::new(&[8; 32], None, || 100).decrypt(&ticket), None, "another secret");
        for at_byte in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at_byte] ^= 1;
            assert_eq!(at(|| 100).decrypt(&changed), None, "{at_byte}");
        }
        for length in 0..ticket.len() {
            assert_eq!(at(|| 100).decrypt(&ticket[..length]), None, "{length}");
        }
        let rotated = SharedTickets::new(&[8; 32], Some(&[7; 32]), || 100);
        assert_eq!(rotated.decrypt(&ticket).as_deref(), Some(&b"a session"[..]), "the secret before");
        assert_eq!(at(|| 100).decrypt(&rotated.encrypt(b"next").expect("sealed")), None, "and is written with no more");
        assert_ne!(at(|| 100).encrypt(b"a session"), Some(ticket), "each under a nonce of its own");
    }

    #[test]
    fn a_secret_is_long_enough_and_never_shown() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (length, good) in [(0, false), (31, false), (32, true), (4096, true), (4097, false)] {
            std::fs::write(file.path(), vec![b'x'; length]).expect("writes");
            let made = SharedTickets::of_file(file.path());
            assert_eq!(made.is_ok(), good, "{length}");
            assert!(!format!("{made:?}").contains("xx"));
        }
        let words = SharedTickets::of_file(Path::new("nowhere")).expect_err("isn't there").to_string();
        assert!(words.contains("nowhere"), "{words}");
    }
}
