//! A certification authority for one machine's development, and a certificate of it.
//!
//! Nothing of this is for production: the authority's key lies in a file.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use time::{Duration, OffsetDateTime};
use x509_parser::{
    extensions::ParsedExtension,
    pem::parse_x509_pem,
    prelude::{FromDer, X509Certificate},
};

use super::prove;

/// How long the authority lasts.
const CA_LIFE: Duration = Duration::days(3650);
/// How long a certificate lasts.
const LEAF_LIFE: Duration = Duration::days(365);
/// A certificate with less than this left is made anew.
const RENEW_BEFORE: Duration = Duration::days(30);
/// Clocks differ, so validity begins a little in the past.
const SKEW: Duration = Duration::hours(1);
/// What every development certificate is for.
const ALWAYS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevCertificate {
    /// The authority, for clients to trust.
    pub ca_pem: PathBuf,
    /// The certificate to serve.
    pub cert_pem: PathBuf,
    /// Its key, mode 0600.
    pub key_pem: PathBuf,
}

/// Why there is no development certificate.
#[derive(Debug)]
pub enum DevError {
    /// A file or folder can't be read or written.
    File(PathBuf, io::Error),
    /// The authority's files don't fit together or are damaged.
    BadAuthority(PathBuf),
    /// A name that can't stand in a certificate.
    BadName(String),
    /// Making a key or signing failed.
    Making(rcgen::Error),
}

/// Finds or makes, in the folder `dir` (0700), an authority kept for ten years and
/// a certificate for `localhost`, `127.0.0.1`, `::1` and `names`. The certificate is
/// made anew when less than 30 days are left, or when the names or the authority changed.
///
/// # Errors
/// [`DevError`], which says what to do.
pub fn ensure(dir: &Path, names: &[String]) -> Result<DevCertificate, DevError> {
    make_folder(dir).map_err(|error| DevError::File(dir.to_owned(), error))?;
    let at =
        DevCertificate { ca_pem: dir.join("ca.pem"), cert_pem: dir.join("cert.pem"), key_pem: dir.join("key.pem") };
    let names = wanted(names);
    let (ca_pem, ca_key) = authority(&at.ca_pem, &dir.join("ca-key.pem"))?;
    if still_good(&at, &ca_pem, &names) {
        return Ok(at);
    }
    let key = KeyPair::generate().map_err(DevError::Making)?;
    let issuer = Issuer::new(ca_params(), ca_key);
    let cert = leaf_params(&names)?.signed_by(&key, &issuer).map_err(DevError::Making)?;
    // Key first: should we end in between, the next start sees that they don't match.
    write(&at.key_pem, &key.serialize_pem(), 0o600, Existing::Replace)?;
    write(&at.cert_pem, &cert.pem(), 0o644, Existing::Replace)?;
    Ok(at)
}

impl fmt::Display for DevError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}; check the folder and its permissions", path.display()),
            Self::BadAuthority(path) => write!(
                f,
                "{}: the development authority is damaged or expired; remove ca.pem and ca-key.pem, \
                 and trust the new ca.pem",
                path.display()
            ),
            Self::BadName(name) => write!(f, "`{name}` is neither a host name nor an address; choose another"),
            Self::Making(error) => write!(f, "a development certificate can't be made: {error}"),
        }
    }
}

impl std::error::Error for DevError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(_, error) => Some(error),
            Self::Making(error) => Some(error),
            Self::BadAuthority(_) | Self::BadName(_) => None,
        }
    }
}

/// The authority's certificate as PEM, and its key; made on the first start.
fn authority(cert_path: &Path, key_path: &Path) -> Result<(String, KeyPair), DevError> {
    let bad = |path: &Path| DevError::BadAuthority(path.to_owned());
    let key = match fs::read_to_string(key_path) {
        Ok(text) => {
            let text = zeroize::Zeroizing::new(text);
            KeyPair::from_pem(&text).map_err(|_| bad(key_path))?
        }
        // A certificate whose key is gone stays: somebody may trust it, and should know.
        Err(error) if error.kind() == io::ErrorKind::NotFound && cert_path.exists() => return Err(bad(key_path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(DevError::Making)?;
            write(key_path, &key.serialize_pem(), 0o600, Existing::Keep)?;
            key
        }
        Err(error) => return Err(DevError::File(key_path.to_owned(), error)),
    };
    let cert = match fs::read_to_string(cert_path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = ca_params().self_signed(&key).map_err(DevError::Making)?.pem();
            write(cert_path, &text, 0o644, Existing::Keep)?;
            text
        }
        Err(error) => return Err(DevError::File(cert_path.to_owned(), error)),
    };
    let ours = with_certificate(cert.as_bytes(), |ca| {
        ca.public_key().raw == key.subject_public_key_info() && ca.validity().not_after.timestamp() > prove::now()
    });
    if ours == Some(true) { Ok((cert, key)) } else { Err(bad(cert_path)) }
}

/// Always the same subject: the issuer is built from it again on every start.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - SKEW, now + CA_LIFE);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Sealward development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(names: &BTreeSet<String>) -> Result<CertificateParams, DevError> {
    let mut params = CertificateParams::default();
    for name in names {
        let one = CertificateParams::new([name.clone()]).map_err(|_| DevError::BadName(name.clone()))?;
        params.subject_alt_names.extend(one.subject_alt_names);
    }
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - SKEW, now + LEAF_LIFE);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Sealward development");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn wanted(names: &[String]) -> BTreeSet<String> {
    let spelled = |name: &str| match name.parse::<IpAddr>() {
        // One spelling for each address, so that comparing finds them equal.
        Ok(address) => address.to_string(),
        Err(_) => name.to_ascii_lowercase(),
    };
    ALWAYS.into_iter().chain(names.iter().map(String::as_str)).map(spelled).collect()
}

fn still_good(at: &DevCertificate, ca_pem: &str, names: &BTreeSet<String>) -> bool {
    let (Ok(cert), Ok(key)) = (fs::read(&at.cert_pem), fs::read(&at.key_pem).map(zeroize::Zeroizing::new)) else {
        return false;
    };
    let Ok(proved) = prove::prove(&at.cert_pem, &cert, &at.key_pem, &key) else {
        return false;
    };
    let lasting = proved.not_after - prove::now() > RENEW_BEFORE.whole_seconds();
    let same_names = proved.names.into_iter().collect::<BTreeSet<_>>() == *names;
    let signed_by = with_certificate(&cert, authority_key).flatten();
    let authority = with_certificate(ca_pem.as_bytes(), own_key).flatten();
    lasting && same_names && signed_by.is_some() && signed_by == authority
}

fn authority_key(leaf: &X509Certificate<'_>) -> Option<Vec<u8>> {
    leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    })
}

fn own_key(ca: &X509Certificate<'_>) -> Option<Vec<u8>> {
    ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// `look` at the first certificate in `pem`, if there is one.
fn with_certificate<T>(pem: &[u8], look: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    Some(look(&certificate))
}

fn make_folder(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        builder.mode(0o700).create(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
    }
    #[cfg(not(unix))]
    builder.create(dir)
}

#[derive(Clone, Copy)]
enum Existing {
    Keep,
    Replace,
}

/// Appears whole under its name, or not at all.
fn write(path: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), DevError> {
    let wrong = |error| DevError::File(path.to_owned(), error);
    let dir = path.parent().unwrap_or(Path::new("."));
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(wrong)?;
    file.write_all(text.as_bytes()).map_err(wrong)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(wrong)?;
    }
    #[cfg(not(unix))]
    let _ = mode;
    file.as_file().sync_all().map_err(wrong)?;
    match existing {
        Existing::Keep => file.persist_noclobber(path),
        Existing::Replace => file.persist(path),
    }
    .map(drop)
    .map_err(|error| wrong(error.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).expect("readable")
    }

    #[test]
    fn made_once_and_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let tls = dir.path().join("tls");
        let made = ensure(&tls, &[]).expect("made");
        let first = (read(&made.ca_pem), read(&made.cert_pem), read(&made.key_pem));
        assert_eq!(ensure(&tls, &[]).expect("found"), made);
        assert_eq!((read(&made.ca_pem), read(&made.cert_pem), read(&made.key_pem)), first);

        ensure(&tls, &["Box.test".into(), "0:0::1".into()]).expect("renewed");
        assert_eq!(read(&made.ca_pem), first.0, "the authority stays");
        let proved = prove::prove("c", read(&made.cert_pem).as_bytes(), "k", read(&made.key_pem).as_bytes());
        let names: BTreeSet<_> = proved.expect("good").names.into_iter().collect();
        assert_eq!(names, wanted(&["box.test".into()]));
    }

    #[test]
    fn a_new_authority_means_a_new_certificate() {
        let dir = tempfile::tempdir().expect("a folder");
        let made = ensure(dir.path(), &[]).expect("made");
        let before = read(&made.cert_pem);
        fs::remove_file(&made.ca_pem).expect("removed");
        fs::remove_file(dir.path().join("ca-key.pem")).expect("removed");
        ensure(dir.path(), &[]).expect("made again");
        assert_ne!(read(&made.cert_pem), before);

        fs::remove_file(dir.path().join("ca-key.pem")).expect("removed");
        assert!(matches!(ensure(dir.path(), &[]), Err(DevError::BadAuthority(_))));
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let tls = dir.path().join("tls");
        let made = ensure(&tls, &[]).expect("made");
        let bits = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((bits(&tls), bits(&made.key_pem), bits(&tls.join("ca-key.pem"))), (0o700, 0o600, 0o600));
        assert_eq!((bits(&made.ca_pem), bits(&made.cert_pem)), (0o644, 0o644));
    }

    #[test]
    fn a_bad_name_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(matches!(ensure(dir.path(), &["übel".into()]), Err(DevError::BadName(_))));
    }
}
