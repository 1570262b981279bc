//! Believes a certificate only after looking: what passes here can be served.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{InconsistentKeys, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// A pair that may be served.
#[derive(Clone, Debug)]
pub struct Proved {
    /// Chain and key, ready for rustls.
    pub key: Arc<CertifiedKey>,
    /// When the leaf begins: seconds since 1970.
    pub not_before: i64,
    /// When it expires.
    pub not_after: i64,
    /// The leaf's serial number in hexadecimal, to tell certificates apart in a log.
    pub serial: String,
    /// The names the leaf is for, as written.
    pub names: Vec<String>,
    /// What is odd, though it can be served.
    pub warnings: Vec<Warning>,
}

/// Odd, but a client may still believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The certificate at this place of the chain (the leaf is 0) wasn't issued by the next one.
    Unlinked(usize),
}

/// Why a pair is not served. Says place, fault and mend, never a byte of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where to look: a file, or what a service calls it.
    pub place: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The file can't be read; the operating system's words.
    Unreadable(String),
    /// The file isn't PEM.
    NotPem,
    /// No `CERTIFICATE` block.
    NoCertificate,
    /// No private key block.
    NoKey,
    /// The private key is under a passphrase.
    EncryptedKey,
    /// A private key of a kind, or a curve, that TLS here can't sign with.
    UnusableKey,
    /// The leaf isn't an X.509 certificate.
    NotX509,
    /// The key belongs to another certificate.
    Mismatch,
    /// The leaf has expired; seconds since 1970.
    Expired(i64),
    /// The leaf isn't valid yet; seconds since 1970.
    NotYetValid(i64),
    /// The leaf names neither a host nor an address in its subject alternative names.
    NoName,
    /// The leaf's extended key usage leaves out TLS servers.
    NotForServers,
    /// The service that has it isn't to be asked, or refuses us; its words.
    Away(String),
    /// The service has no certificate yet, or no more: what it calls that.
    NotIssued(String),
    /// ACM gives the key of such a certificate to nobody: its type there.
    NotExportable(&'static str),
}

/// Proves PEM text: a chain, leaf first, and its key. The paths only serve the refusal's words.
///
/// # Errors
/// [`Refusal`], with the first thing found wrong.
pub fn prove(
    cert_file: impl AsRef<Path>,
    cert_pem: &[u8],
    key_file: impl AsRef<Path>,
    key_pem: &[u8],
) -> Result<Proved, Refusal> {
    let of_cert = |reason| Refusal::of(cert_file.as_ref(), reason);
    let of_key = |reason| Refusal::of(key_file.as_ref(), reason);
    let chain = read_chain(cert_pem).map_err(of_cert)?;
    let key = read_key(key_pem).map_err(of_key)?;

    let leaf = parse(&chain[0]).ok_or_else(|| of_cert(Reason::NotX509))?;
    let about = look_at_leaf(&leaf, now()).map_err(of_cert)?;
    let serial = leaf.tbs_certificate.raw_serial_as_string();
    let (not_before, not_after) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let warnings = unlinked(&chain);

    let signer = super::provider().key_provider.load_private_key(key).map_err(|_| of_key(Reason::UnusableKey))?;
    let key = CertifiedKey::new(chain, signer);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => return Err(of_key(Reason::Mismatch)),
        Err(_) => return Err(of_cert(Reason::NotX509)),
    }
    Ok(Proved { key: Arc::new(key), not_before, not_after, serial, names: about, warnings })
}

impl Refusal {
    /// `reason`, of the file at `path`.
    pub fn of(path: &Path, reason: Reason) -> Self {
        Self { place: path.display().to_string(), reason }
    }

    /// A source that has nothing.
    pub(super) fn nothing() -> Self {
        Self { place: "the source".into(), reason: Reason::NoCertificate }
    }
}

impl Reason {
    /// Whether the pair may be half-way through being replaced, so that looking again may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Mismatch | Self::Unreadable(_))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "can't be read ({why}); check the path and its permissions"),
            Self::NotPem => f.write_str("is not PEM text; convert it with `openssl x509` or `openssl pkey`"),
            Self::NoCertificate => f.write_str("holds no CERTIFICATE block; put the chain there, leaf first"),
            Self::NoKey => f.write_str("holds no private key block; PKCS#8, PKCS#1 and SEC1 are read"),
            Self::EncryptedKey => {
                f.write_str("holds a key under a passphrase; write it without one, e.g. `openssl pkey -in … -out …`")
            }
            Self::UnusableKey => f.write_str(
                "holds a key TLS can't sign with; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits up",
            ),
            Self::NotX509 => f.write_str("its first certificate can't be parsed; write the chain again, leaf first"),
            Self::Mismatch => f.write_str("is the key of another certificate; replace both together"),
            Self::Expired(when) => write!(f, "expired at {}; renew it", date(*when)),
            Self::NotYetValid(when) => {
                write!(f, "is valid only from {}; check this machine's clock, or wait", date(*when))
            }
            Self::NoName => {
                f.write_str("has no DNS name or IP address as subject alternative name; have it issued again with one")
            }
            Self::Away(why) => write!(f, "can't be had ({why})"),
            Self::NotIssued(status) => write!(f, "is {status}, not issued; look at it in ACM"),
            Self::NotExportable(kind) => write!(
                f,
                "can't be exported: ACM gives out the keys of private CAs' certificates, and of public ones that were \
                 requested with export enabled (`aws acm request-certificate --options Export=ENABLED`), and this is \
                 {kind}; have another issued, or give the pair as `files`"
            ),
            Self::NotForServers => {
                f.write_str("is not for TLS servers (extended key usage); have it issued again with serverAuth")
            }
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Unlinked(at) = self;
        write!(f, "certificate {at} of the chain was not issued by the one after it; some clients will refuse it")
    }
}

fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Reason> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|_| Reason::NotPem)?;
    match chain.is_empty() {
        true if has_pem(text) => Err(Reason::NoCertificate),
        true => Err(Reason::NotPem),
        false => Ok(chain),
    }
}

fn read_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Reason> {
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if contains(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") => {
            Err(Reason::EncryptedKey)
        }
        Err(pem::Error::NoItemsFound) if has_pem(text) => Err(Reason::NoKey),
        // The decoder's own words may quote what it stumbled over.
        Err(_) => Err(Reason::NotPem),
    }
}

/// Gives the leaf's names, if it may be served at `now`.
fn look_at_leaf(leaf: &X509Certificate<'_>, now: i64) -> Result<Vec<String>, Reason> {
    let (from, to) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    if now >= to {
        return Err(Reason::Expired(to));
    }
    if now < from {
        return Err(Reason::NotYetValid(from));
    }
    let names = match leaf.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().filter_map(name).collect::<Vec<_>>(),
        Ok(None) => Vec::new(),
        Err(_) => return Err(Reason::NotX509),
    };
    if names.is_empty() {
        return Err(Reason::NoName);
    }
    match leaf.extended_key_usage() {
        Ok(None) => Ok(names),
        Ok(Some(usage)) if usage.value.server_auth || usage.value.any => Ok(names),
        Ok(Some(_)) => Err(Reason::NotForServers),
        Err(_) => Err(Reason::NotX509),
    }
}

fn name(general: &GeneralName<'_>) -> Option<String> {
    match general {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        _ => None,
    }
}

fn unlinked(chain: &[CertificateDer<'static>]) -> Vec<Warning> {
    let links = |(at, pair): (usize, &[CertificateDer<'static>])| match (parse(&pair[0]), parse(&pair[1])) {
        (Some(this), Some(next)) if this.issuer().as_raw() == next.subject().as_raw() => None,
        _ => Some(Warning::Unlinked(at)),
    };
    chain.windows(2).enumerate().filter_map(links).collect()
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der.as_ref()).ok().map(|(_, certificate)| certificate)
}

fn has_pem(text: &[u8]) -> bool {
    contains(text, b"-----BEGIN ")
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

/// Seconds since 1970; a clock before that is taken for 1970.
pub fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// A time as people write it, in UTC.
pub fn date(seconds: i64) -> String {
    let form = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|when| when.format(form).ok())
        .unwrap_or_else(|| format!("{seconds} s since 1970"))
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
    use time::{Duration, OffsetDateTime};

    use super::*;

    /// A self-signed pair as PEM, certificate first.
    pub(in crate::tls) fn pair(names: &[&str]) -> (String, String) {
        made(names, |_| ())
    }

    pub(in crate::tls) fn made(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(names).expect("names are names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        (params.self_signed(&key).expect("signs").pem(), key.serialize_pem())
    }

    fn reason((cert, key): &(String, String)) -> Reason {
        prove("c.pem", cert.as_bytes(), "k.pem", key.as_bytes()).expect_err("refused").reason
    }

    #[test]
    fn a_good_pair_is_believed() {
        let (cert, key) = pair(&["localhost", "127.0.0.1", "::1"]);
        let proved = prove("c", cert.as_bytes(), "k", key.as_bytes()).expect("good");
        assert_eq!(proved.names, ["localhost", "127.0.0.1", "::1"]);
        assert!(proved.warnings.is_empty() && proved.not_after > now());
    }

    #[test]
    fn bad_pairs_are_refused_by_name() {
        let good = pair(&["localhost"]);
        let other = pair(&["localhost"]);
        let day = Duration::days(1);
        let mixed = (good.0.clone(), other.1);
        assert_eq!(reason(&mixed), Reason::Mismatch);
        let expired = made(&["a"], |params| params.not_after = OffsetDateTime::now_utc() - day);
        assert!(matches!(reason(&expired), Reason::Expired(_)));
        let early = made(&["a"], |params| params.not_before = OffsetDateTime::now_utc() + day);
        assert!(matches!(reason(&early), Reason::NotYetValid(_)));
        assert_eq!(reason(&pair(&[])), Reason::NoName);
        let client = made(&["a"], |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert_eq!(reason(&client), Reason::NotForServers);
        assert_eq!(reason(&("garbage".into(), good.1.clone())), Reason::NotPem);
        assert_eq!(reason(&(good.1.clone(), good.1.clone())), Reason::NoCertificate);
        assert_eq!(reason(&(good.0.clone(), good.0.clone())), Reason::NoKey);
        let locked = good.1.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(reason(&(good.0.clone(), locked)), Reason::EncryptedKey);
    }

    #[test]
    fn a_broken_chain_is_a_warning() {
        let (cert, key) = pair(&["localhost"]);
        let stranger = made(&["b"], |params| {
            params.distinguished_name.push(rcgen::DnType::CommonName, "somebody else");
        });
        let chain = format!("{cert}{}", stranger.0);
        let proved = prove("c", chain.as_bytes(), "k", key.as_bytes()).expect("served all the same");
        assert_eq!(proved.warnings, [Warning::Unlinked(0)]);
    }

    #[test]
    fn words_hold_no_key() {
        let (cert, key) = pair(&["localhost"]);
        let cut = key.replace("-----END", "!!!-----END");
        let refusal = prove("c.pem", cert.as_bytes(), "k.pem", cut.as_bytes()).expect_err("refused");
        let words = format!("{refusal} {refusal:?}");
        assert!(key.lines().filter(|line| !line.contains("---")).all(|line| !words.contains(line)));
        assert!(words.contains("k.pem"));
    }
}
