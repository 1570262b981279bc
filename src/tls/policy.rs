//! Which versions and suites a listener takes.

use rustls::{
    CipherSuite, SupportedProtocolVersion,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};

use crate::config::TlsPolicy;

/// The versions of `policy`.
pub(super) fn versions(policy: TlsPolicy) -> &'static [&'static SupportedProtocolVersion] {
    static NEWEST: &[&SupportedProtocolVersion] = &[&TLS13];
    static BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    match policy {
        TlsPolicy::Tls13 => NEWEST,
        TlsPolicy::Tls12 | TlsPolicy::Tls12Gcm => BOTH,
    }
}

/// `provider` with the suites of `policy` alone.
pub(super) fn suites(mut provider: CryptoProvider, policy: TlsPolicy) -> CryptoProvider {
    if policy == TlsPolicy::Tls12Gcm {
        let chacha = [
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        provider.cipher_suites.retain(|suite| !chacha.contains(&suite.suite()));
    }
    provider
}
