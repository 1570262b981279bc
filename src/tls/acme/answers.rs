//! What an authority that looks whether a name is ours is shown, for as long as it looks.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Answers to validations under way, of every certificate of the process.
#[derive(Default)]
pub struct Answers {
    /// By token: http-01 (RFC 8555, section 8.3).
    texts: RwLock<HashMap<String, String>>,
    /// By name: tls-alpn-01 (RFC 8737).
    certificates: RwLock<HashMap<String, Arc<CertifiedKey>>>,
    /// Held while an account is looked up or made.
    pub(super) accounts: tokio::sync::Mutex<()>,
}

/// One answer, until it is dropped.
pub(super) struct Shown {
    answers: Arc<Answers>,
    key: String,
    text: bool,
}

impl Answers {
    /// What is asked for at `/.well-known/acme-challenge/TOKEN`.
    pub fn text(&self, token: &str) -> Option<String> {
        self.texts.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// What a handshake by [`super::PROTOCOL`] for `host` gets.
    pub(in crate::tls) fn certificate(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        certificates.get(&host.to_ascii_lowercase()).cloned()
    }

    pub(super) fn show_text(self: &Arc<Self>, token: &str, text: &str) -> Shown {
        let mut texts = self.texts.write().unwrap_or_else(PoisonError::into_inner);
        texts.insert(token.to_owned(), text.to_owned());
        Shown { answers: Arc::clone(self), key: token.to_owned(), text: true }
    }

    /// A certificate for `host` that bears `digest`, and that nobody else would believe.
    pub(super) fn show_certificate(self: &Arc<Self>, host: &str, digest: &[u8]) -> Result<Shown, String> {
        let failed = |error: rcgen::Error| format!("the answer can't be made: {error}");
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(failed)?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.self_signed(&key).map_err(failed)?;
        let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
        let signer = super::super::provider().key_provider.load_private_key(der).map_err(|error| error.to_string())?;
        let served = Arc::new(CertifiedKey::new(vec![CertificateDer::from(cert)], signer));
        let host = host.to_ascii_lowercase();
        self.certificates.write().unwrap_or_else(PoisonError::into_inner).insert(host.clone(), served);
        Ok(Shown { answers: Arc::clone(self), key: host, text: false })
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.text {
            self.answers.texts.write().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        } else {
            self.answers.certificates.write().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}
