//! Clients' certificates: whom the trust bundle and the revocation lists admit. Both are
//! files, followed while we serve, and what is replaced holds for who is connected too.
//!
//! No session is resumed on such a listener: a ticket would carry a certificate past its
//! revocation.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject};
use tokio::sync::watch;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer,
    revocation_list::CertificateRevocationList, x509::X509Name,
};

use super::{
    files,
    follow::{Follower, follow},
};
use crate::{
    config::{ClientAuth, ClientMode, San},
    metrics::Metrics,
    replace::read,
};

/// The largest trust bundle or revocation list, in bytes: each handshake hashes the lists that
/// it asks, so that a larger one would slow all of them.
const MOST: u64 = 4 << 20;

/// Decides about clients of one listener.
pub struct Clients {
    mode: ClientMode,
    /// As it is configured.
    listener: SocketAddr,
    provider: Arc<CryptoProvider>,
    trust: ArcSwap<Trust>,
}

/// What decides for a while.
struct Trust {
    /// None admits everybody: the app behind decides.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// When the first list ends, where that ends what it admits; seconds since 1970.
    until: Option<i64>,
    /// Goes up with every replacement, from 1.
    epoch: u64,
}

/// Why files don't make a trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untrusted {
    place: String,
    what: String,
}

/// Keeps [`Clients`] true to their files. Made by [`open`].
#[derive(Debug)]
pub struct Watch {
    listener: String,
    config: ClientAuth,
    clients: Arc<Clients>,
    metrics: Metrics,
    seen: [u8; 32],
    refused: Option<Untrusted>,
    /// When the first list ends, and whether that was said.
    ends: Option<i64>,
    late: bool,
}

/// Reads what `config` of `listener` names.
///
/// # Errors
/// [`Untrusted`] names the file and the mend.
pub fn open(listener: SocketAddr, config: &ClientAuth, metrics: Metrics) -> Result<(Arc<Clients>, Watch), Untrusted> {
    let content = Content::read(config)?;
    let provider = Arc::new(super::provider());
    let (verifier, ends) = content.verifier(config, &provider)?;
    let until = ends.filter(|_| config.revocation_expiry);
    let trust = ArcSwap::from_pointee(Trust { verifier, until, epoch: 1 });
    let clients = Arc::new(Clients { mode: config.mode, listener, provider, trust });
    let mut watch = Watch {
        listener: listener.to_string(),
        config: config.clone(),
        clients: Arc::clone(&clients),
        metrics,
        seen: content.digest(),
        refused: None,
        ends,
        late: false,
    };
    watch.tell(ends, &content);
    watch.look_at_the_clock();
    Ok((clients, watch))
}

impl Watch {
    /// Looks again and again, and at once whenever `reload` changes. Never ends by itself.
    pub async fn run(self, reload: watch::Receiver<u64>) {
        follow(self, reload).await;
    }
}

impl Follower for Watch {
    fn every(&self) -> Duration {
        self.config.refresh
    }

    fn forget(&mut self) {
        self.refused = None;
    }

    fn look(&mut self) {
        let found = Content::read(&self.config).and_then(|content| {
            let digest = content.digest();
            if digest == self.seen {
                return Ok(None);
            }
            let (verifier, ends) = content.verifier(&self.config, &self.clients.provider)?;
            Ok(Some((verifier, ends, content, digest)))
        });
        match found {
            Ok(None) => self.refused = None,
            Ok(Some((verifier, ends, content, digest))) => {
                let epoch = self.clients.trust.load().epoch + 1;
                let until = ends.filter(|_| self.config.revocation_expiry);
                self.clients.trust.store(Arc::new(Trust { verifier, until, epoch }));
                (self.ends, self.late) = (ends, false);
                self.seen = digest;
                self.refused = None;
                self.tell(ends, &content);
            }
            Err(untrusted) => {
                if self.refused.as_ref() != Some(&untrusted) {
                    self.metrics.client_trust_loads.with_label_values(&[&self.listener, "refused"]).inc();
                    tracing::warn!(listener = self.listener, "client trust refused, the old one holds on: {untrusted}");
                    self.refused = Some(untrusted);
                }
            }
        }
        self.look_at_the_clock();
    }
}

impl Watch {
    /// Says once that a list has run out.
    fn look_at_the_clock(&mut self) {
        if self.late || self.ends.is_none_or(|ends| ends > super::prove::now()) {
            return;
        }
        self.late = true;
        let enforced = if self.config.revocation_expiry { ", and nobody it is asked about comes in" } else { "" };
        tracing::warn!(
            listener = self.listener,
            "a revocation list is past its next update{enforced}: publish a new one"
        );
    }

    fn tell(&self, ends: Option<i64>, content: &Content) {
        self.metrics.client_trust_loads.with_label_values(&[&self.listener, "published"]).inc();
        if let Some(ends) = ends {
            self.metrics.client_revocation_expiry.with_label_values(&[&self.listener]).set(ends);
        }
        tracing::info!(listener = self.listener, lists = content.lists.len(), "client trust published");
    }
}

/// What the files hold.
struct Content {
    trust: Option<(PathBuf, Vec<u8>)>,
    lists: Vec<(PathBuf, Vec<u8>)>,
}

impl Content {
    fn read(config: &ClientAuth) -> Result<Self, Untrusted> {
        let content = |path: &PathBuf| match read(path, MOST) {
            Ok(bytes) => Ok((path.clone(), bytes.to_vec())),
            Err(error) => {
                Err(Untrusted::of(path, format!("can't be read ({error}); check the path and its permissions")))
            }
        };
        let trust = config.trust.as_ref().map(content).transpose()?;
        Ok(Self { trust, lists: config.revocation.iter().map(content).collect::<Result<_, _>>()? })
    }

    fn digest(&self) -> [u8; 32] {
        let parts: Vec<&[u8]> = self.trust.iter().chain(&self.lists).map(|(_, bytes)| bytes.as_slice()).collect();
        files::digest(&parts)
    }

    /// What verifies by these files, and when the first of the lists ends; seconds since 1970.
    #[allow(clippy::type_complexity)]
    fn verifier(
        &self,
        config: &ClientAuth,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(Option<Arc<dyn ClientCertVerifier>>, Option<i64>), Untrusted> {
        let Some((path, pem)) = &self.trust else { return Ok((None, None)) };
        let mut roots = RootCertStore::empty();
        for found in CertificateDer::pem_slice_iter(pem) {
            let found = found.map_err(|_| Untrusted::of(path, "is not PEM text; convert it with `openssl x509`"))?;
            roots.add(found).map_err(|error| Untrusted::of(path, format!("holds what is no authority: {error}")))?;
        }
        if roots.is_empty() {
            return Err(Untrusted::of(path, "holds no CERTIFICATE block; put the authorities of clients there"));
        }
        let mut lists = Vec::new();
        let mut ends: Option<i64> = None;
        for (path, bytes) in &self.lists {
            let found = revocation_lists(bytes).ok_or_else(|| {
                Untrusted::of(
                    path,
                    "is no revocation list in PEM or DER; write it with `openssl ca -gencrl` or `openssl crl`",
                )
            })?;
            for list in found {
                let (_, parsed) = CertificateRevocationList::from_der(&list)
                    .map_err(|_| Untrusted::of(path, "holds a revocation list that can't be parsed"))?;
                if let Some(next) = parsed.next_update() {
                    ends = Some(ends.map_or(next.timestamp(), |ends| ends.min(next.timestamp())));
                }
                lists.push(list);
            }
        }
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).with_crls(lists);
        if config.revocation_expiry {
            builder = builder.enforce_revocation_expiration();
        }
        let verifier = builder.build().map_err(|error| Untrusted::of(path, format!("can't be used: {error}")))?;
        Ok((Some(verifier), ends))
    }
}

/// Every list in PEM text, or the one that DER is.
fn revocation_lists(bytes: &[u8]) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let pem: Vec<_> = CertificateRevocationListDer::pem_slice_iter(bytes).collect::<Result<_, _>>().ok()?;
    if !pem.is_empty() {
        return Some(pem);
    }
    // DER begins with a SEQUENCE.
    (bytes.first() == Some(&0x30)).then(|| vec![CertificateRevocationListDer::from(bytes.to_vec())])
}

impl Clients {
    /// Goes up with every replacement of the trust.
    pub fn epoch(&self) -> u64 {
        self.trust.load().epoch
    }

    /// What is known of a client that came with `chain` in a handshake that began at `epoch`;
    /// `None` for one that brought none.
    pub fn presented(
        self: &Arc<Self>,
        chain: Option<&[CertificateDer<'static>]>,
        epoch: u64,
    ) -> Option<Arc<Presented>> {
        let chain = chain.filter(|chain| !chain.is_empty())?;
        let trust = self.trust.load();
        let judged =
            trust.verifier.is_some().then(|| Judged { clients: Arc::clone(self), epoch: AtomicU64::new(epoch) });
        Presented::of(chain, judged).map(Arc::new)
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mode == ClientMode::Require
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Whom we trust is nobody's business, and changes while we serve.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &self.trust.load().verifier {
            Some(verifier) => verifier.verify_client_cert(end_entity, intermediates, now),
            None => match X509Certificate::from_der(end_entity) {
                Ok(_) => Ok(ClientCertVerified::assertion()),
                Err(_) => Err(CertificateError::BadEncoding.into()),
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A client's certificate, as it came.
pub struct Presented {
    /// The chain, leaf first, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// The subject, as RFC 4514 writes it.
    pub subject: String,
    /// The subject's attributes by their OIDs; no value where one can't be read as text.
    pub attributes: Vec<(String, Option<String>)>,
    /// The issuer's name, as RFC 4514 writes it.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Subject alternative names that are text, as written.
    pub names: Vec<(San, String)>,
    /// SHA-256 of the leaf, in lower-case hexadecimal.
    pub fingerprint: String,
    /// The leaf's first and last second of validity, since 1970.
    pub validity: (i64, i64),
    /// When the first of the chain ends.
    until: i64,
    judged: Option<Judged>,
}

/// Who believed a chain, and when that was last asked.
struct Judged {
    clients: Arc<Clients>,
    epoch: AtomicU64,
}

impl Presented {
    fn of(chain: &[CertificateDer<'static>], judged: Option<Judged>) -> Option<Self> {
        let (_, leaf) = X509Certificate::from_der(&chain[0]).ok()?;
        let names = leaf.subject_alternative_name().ok().flatten().map_or_else(Vec::new, |names| {
            let text = |name: &GeneralName<'_>| match name {
                GeneralName::DNSName(text) => Some((San::Dns, (*text).to_owned())),
                GeneralName::URI(text) => Some((San::Uri, (*text).to_owned())),
                GeneralName::RFC822Name(text) => Some((San::Mail, (*text).to_owned())),
                _ => None,
            };
            names.value.general_names.iter().filter_map(text).collect()
        });
        let validity = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        let ends = |cert: &CertificateDer<'static>| {
            X509Certificate::from_der(cert).ok().map(|(_, cert)| cert.validity().not_after.timestamp())
        };
        Some(Self {
            until: chain.iter().filter_map(ends).min().unwrap_or(validity.1),
            subject: leaf.subject().to_string(),
            attributes: attributes(leaf.subject()),
            issuer: leaf.issuer().to_string(),
            serial: leaf.tbs_certificate.raw_serial_as_string(),
            names,
            fingerprint: hex::encode(digest(&SHA256, &chain[0]).as_ref()),
            validity,
            chain: chain.to_vec(),
            judged,
        })
    }

    /// The configured address of the listener that believed it.
    pub fn listener(&self) -> Option<SocketAddr> {
        self.judged.as_ref().map(|judged| judged.clients.listener)
    }

    /// Whether we believed it, rather than handing it on.
    pub fn is_verified(&self) -> bool {
        self.judged.is_some()
    }

    /// Whether it is still to be believed: looked into again once the trust was replaced,
    /// or its time is over. One that is handed on always is.
    pub fn holds(&self) -> bool {
        let Some(Judged { clients, epoch }) = &self.judged else { return true };
        let now = UnixTime::now();
        let current = clients.trust.load();
        let until = current.until.map_or(self.until, |until| until.min(self.until));
        let over = i64::try_from(now.as_secs()).is_ok_and(|now| now > until);
        if epoch.load(Ordering::Acquire) == current.epoch && !over {
            return true;
        }
        let Some(verifier) = &current.verifier else { return false };
        let holds = verifier.verify_client_cert(&self.chain[0], &self.chain[1..], now).is_ok();
        if holds {
            epoch.store(current.epoch, Ordering::Release);
        }
        holds
    }
}

fn attributes(name: &X509Name<'_>) -> Vec<(String, Option<String>)> {
    let attribute = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        (attribute.attr_type().to_id_string(), attribute.as_str().ok().map(str::to_owned))
    };
    name.iter_attributes().map(attribute).collect()
}

impl Untrusted {
    fn of(path: &Path, what: impl Into<String>) -> Self {
        Self { place: path.display().to_string(), what: what.into() }
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl std::error::Error for Untrusted {}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("serial", &self.serial).finish_non_exhaustive()
    }
}
