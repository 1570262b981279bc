//! An OCSP response that is sent along with a certificate: a file that others fetch anew.
//!
//! It is looked into as far as it takes not to send a wrong one: of which certificate it
//! is, that it says good, and until when. Its signature is the client's to verify.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;
use tokio::sync::watch;
use x509_parser::{
    asn1_rs::{Any, Class, FromDer, GeneralizedTime, Sequence, Tag},
    certificate::X509Certificate,
};

use super::{
    CertificateSlot,
    follow::{Follower, follow},
    prove::{self, Proved},
};
use crate::{metrics::Metrics, replace::read};

/// The largest response, in bytes.
const MOST: u64 = 64 << 10;
/// How often the file is looked at.
const REFRESH: Duration = Duration::from_secs(10);
/// Hashes of an issuer's name, as DER has them.
const SHA_1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// `id-pkix-ocsp-basic`, as DER has it.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// A response that says good.
#[derive(Clone, PartialEq, Eq)]
pub struct Staple {
    bytes: Arc<[u8]>,
    /// The certificate's serial number, without leading zeroes.
    serial: Vec<u8>,
    /// The issuer's name under a hash, and which hash that is: an OID as DER has it.
    issuer: Vec<u8>,
    hash: Vec<u8>,
    /// Past it nobody believes the response; seconds since 1970.
    next: Option<i64>,
}

/// Why a response isn't sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// No OCSP response in DER.
    NotOcsp,
    /// The responder didn't answer: its status.
    Failed(u8),
    /// Revoked, or unknown.
    NotGood,
    /// Past its next update.
    Stale,
}

impl Staple {
    /// Reads a response in DER of one certificate, as it is at `now`.
    ///
    /// # Errors
    /// [`Unusable`] says why it can't be sent.
    pub fn read(der: &[u8], now: i64) -> Result<Self, Unusable> {
        let Single { serial, issuer, hash, good, next } =
            parse(der).map_err(|failed| failed.map_or(Unusable::NotOcsp, Unusable::Failed))?;
        if !good {
            return Err(Unusable::NotGood);
        }
        if next.is_some_and(|next| next <= now) {
            return Err(Unusable::Stale);
        }
        Ok(Self { bytes: der.into(), serial, issuer, hash, next })
    }

    /// Whether it is of this certificate: its serial number, and its issuer's name.
    pub fn is_of(&self, proved: &Proved) -> bool {
        let bytes = proved.serial.split(':').map(|byte| u8::from_str_radix(byte, 16));
        let Ok(bytes) = bytes.collect::<Result<Vec<u8>, _>>() else { return false };
        let Some(leaf) = proved.key.cert.first() else { return false };
        let Ok((_, leaf)) = X509Certificate::from_der(leaf) else { return false };
        let algorithm = match self.hash.as_slice() {
            SHA_1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            SHA_256 => &digest::SHA256,
            _ => return false,
        };
        let issuer = digest::digest(algorithm, leaf.issuer().as_raw());
        plain(&bytes) == self.serial && issuer.as_ref() == self.issuer
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn plain(number: &[u8]) -> &[u8] {
    let zeroes = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeroes..]
}

/// What a response says of one certificate.
struct Single {
    serial: Vec<u8>,
    issuer: Vec<u8>,
    hash: Vec<u8>,
    good: bool,
    next: Option<i64>,
}

/// What a response says of its first certificate (RFC 6960, section 4.2.1). The status where
/// that isn't success.
fn parse(der: &[u8]) -> Result<Single, Option<u8>> {
    let inside =
        |bytes: &[u8]| -> Option<Vec<u8>> { Sequence::from_der(bytes).ok().map(|(_, found)| found.content.to_vec()) };
    let response = inside(der).ok_or(None)?;
    let (rest, status) = Any::from_der(&response).map_err(|_| None)?;
    if status.tag() != Tag::Enumerated {
        return Err(None);
    }
    match status.data {
        [0] => {}
        [failed] => return Err(Some(*failed)),
        _ => return Err(None),
    }
    good(rest).ok_or(None)
}

fn good(rest: &[u8]) -> Option<Single> {
    let sequence = |bytes: &[u8]| Sequence::from_der(bytes).ok().map(|(_, found)| found.content.to_vec());
    let context = |any: &Any<'_>, number: u32| any.class() == Class::ContextSpecific && any.tag() == Tag(number);
    // [0] EXPLICIT ResponseBytes: which type, and an OCTET STRING with the response.
    let (_, bytes) = Any::from_der(rest).ok().filter(|(_, any)| context(any, 0))?;
    let bytes = sequence(bytes.data)?;
    let (rest, kind) = Any::from_der(&bytes).ok()?;
    let (_, octets) = Any::from_der(rest).ok()?;
    if kind.data != BASIC || octets.tag() != Tag::OctetString {
        return None;
    }
    // BasicOCSPResponse, its ResponseData: a version perhaps, who, when, which.
    let basic = sequence(octets.data)?;
    let data = sequence(&basic)?;
    let mut rest = data.as_slice();
    let list = loop {
        let (after, any) = Any::from_der(rest).ok()?;
        rest = after;
        if any.tag() == Tag::Sequence && any.class() == Class::Universal {
            break any.data.to_vec();
        }
    };
    let single = sequence(&list)?;
    let (rest, id) = Any::from_der(&single).ok()?;
    let (rest, status) = Any::from_der(rest).ok()?;
    let (rest, _this) = GeneralizedTime::from_der(rest).ok()?;
    let next = match Any::from_der(rest) {
        Ok((_, any)) if context(&any, 0) => {
            Some(GeneralizedTime::from_der(any.data).ok()?.1.utc_datetime().ok()?.unix_timestamp())
        }
        _ => None,
    };
    // CertID: two hashes under an algorithm, and the serial number.
    let (id, algorithm) = Any::from_der(id.data).ok()?;
    let (id, issuer) = Any::from_der(id).ok()?;
    let (id, _key) = Any::from_der(id).ok()?;
    let (_, serial) = Any::from_der(id).ok()?;
    let (_, hash) = Any::from_der(algorithm.data).ok()?;
    (serial.tag() == Tag::Integer).then(|| Single {
        serial: plain(serial.data).to_vec(),
        issuer: issuer.data.to_vec(),
        hash: hash.data.to_vec(),
        good: context(&status, 0),
        next,
    })
}

/// Keeps a slot's staple true to a file.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    slot: Arc<CertificateSlot>,
    metrics: Metrics,
    sent: Option<Staple>,
    /// What was last said: whether it is sent, and its end.
    told: Option<(bool, Option<i64>)>,
    refused: Option<String>,
}

impl Watch {
    /// The response in `path`, sent with what `slot` serves; looked at now.
    pub fn new(path: &Path, slot: Arc<CertificateSlot>, metrics: Metrics) -> Self {
        let mut watch = Self { path: path.to_owned(), slot, metrics, sent: None, told: None, refused: None };
        watch.look();
        watch
    }

    /// Looks again and again, and at once whenever `reload` changes. Never ends by itself.
    pub async fn run(self, reload: watch::Receiver<u64>) {
        follow(self, reload).await;
    }
}

impl Follower for Watch {
    fn every(&self) -> Duration {
        REFRESH
    }

    fn forget(&mut self) {
        self.refused = None;
    }

    fn look(&mut self) {
        let read = read(&self.path, MOST).map_err(|error| format!("can't be read ({error})"));
        let found = read.and_then(|der| Staple::read(&der, prove::now()).map_err(|why| why.to_string()));
        let name = self.slot.name();
        match found {
            Ok(staple) => {
                if self.sent.as_ref() != Some(&staple) {
                    self.slot.staple(Some(staple.clone()));
                    self.sent = Some(staple.clone());
                }
                // The certificate may have changed since, and it with it.
                let fits = self.slot.is_stapled();
                let expiry = if fits { staple.next.unwrap_or(i64::MAX) } else { 0 };
                self.metrics.staple_expiry.with_label_values(&[name]).set(expiry);
                let state = if fits {
                    None
                } else {
                    Some("is of another certificate than the one served; fetch its own".to_owned())
                };
                if self.told.as_ref() != Some(&(fits, staple.next)) {
                    self.told = Some((fits, staple.next));
                    let path = self.path.display();
                    match &state {
                        None => tracing::info!(certificate = name, "OCSP response sent along"),
                        Some(why) => {
                            tracing::warn!(certificate = name, "the OCSP response isn't sent along: {path}: {why}");
                        }
                    }
                }
                self.refused = None;
            }
            Err(why) => {
                if self.refused.as_ref() != Some(&why) {
                    let path = self.path.display();
                    tracing::warn!(certificate = name, "the OCSP response isn't sent along: {path}: {why}");
                    self.refused = Some(why);
                }
                // What was sent before goes on until its own end.
                if self.sent.as_ref().is_none_or(|sent| sent.next.is_some_and(|next| next <= prove::now())) {
                    self.metrics.staple_expiry.with_label_values(&[name]).set(0);
                    self.slot.staple(None);
                    self.sent = None;
                }
            }
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOcsp => f.write_str("is no OCSP response in DER; `openssl ocsp -respout FILE` writes one"),
            Self::Failed(status) => write!(f, "the responder gave no answer (status {status}); ask it again"),
            Self::NotGood => f.write_str("says that the certificate is not good; have another issued"),
            Self::Stale => f.write_str("is past its next update; fetch another"),
        }
    }
}

impl fmt::Debug for Staple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staple").field("next", &self.next).finish_non_exhaustive()
    }
}
