//! Fetches, proves, then publishes certificates, and says who may connect.
//!
//! A certificate is served only after [`prove`] believed it, and is replaced
//! whole: a handshake sees the old pair or the new one, never a mixture.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
    server::NoServerSessionStorage,
};

use self::{clients::Clients, tickets::SharedTickets};
use crate::config::TlsPolicy;

pub mod acm;
pub mod acme;
pub mod bundle;
pub mod clients;
pub mod dev;
pub mod files;
mod follow;
mod pkcs8;
mod policy;
pub mod prove;
mod slot;
pub mod source;
pub mod staple;
pub mod tickets;

pub use slot::{CertificateSlot, Certificates};

/// The only cryptography TLS uses here: AWS-LC, the hybrid post-quantum group first.
///
/// rustls follows the client's order among these: one that lists the hybrid group
/// first gets it, if need be by a `HelloRetryRequest`, and one that lists X25519
/// before it gets X25519.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        // Of TLS 1.2 rustls knows forward secret AEAD suites only.
        ..aws_lc_rs::default_provider()
    }
}

/// What a listener tells its handshakes: versions and suites by `policy`, one of
/// `certificates`, `h2` and `http/1.1`. With `tickets` other replicas resume what this
/// one began; else nobody does after a restart. With `clients` their certificates are asked
/// for, and no session is resumed.
///
/// # Errors
/// When the provider and the versions don't fit together, or no randomness is
/// to be had for the ticket key.
pub fn server_config(
    certificates: Certificates,
    policy: TlsPolicy,
    tickets: Option<Arc<SharedTickets>>,
    clients: Option<Arc<Clients>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(policy::suites(provider(), policy)))
        .with_protocol_versions(policy::versions(policy))?;
    let resumes = clients.is_none();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients),
    };
    let answers = certificates.answers();
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if answers {
        config.alpn_protocols.push(acme::PROTOCOL.to_vec());
    }
    // Our order of suites decides: AES-256-GCM, the fastest here, before the others.
    config.ignore_client_order = true;
    // Resumption without state: tickets under a key that rotates, and no cache to fill.
    // None where clients have certificates: it would bring one back past its revocation.
    if resumes {
        config.ticketer = match tickets {
            Some(tickets) => tickets,
            None => aws_lc_rs::Ticketer::new()?,
        };
    }
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = if resumes { 2 } else { 0 };
    // Early data can be replayed, and half-RTT data goes to whom no Finished has come from.
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    // Without it a TLS 1.2 session can be spliced (RFC 7627).
    config.require_ems = true;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    fn certificates() -> Certificates {
        let made = prove::tests::pair(&["localhost"]);
        let proved = prove::prove("cert", made.0.as_bytes(), "key", made.1.as_bytes()).expect("a good pair");
        Certificates::new(vec![Arc::new(CertificateSlot::new("test", Some(&proved)))], None)
    }

    #[test]
    fn hybrid_group_comes_first() {
        let names: Vec<_> = provider().kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(
            names,
            [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1]
        );
    }

    #[test]
    fn policy_and_promises() {
        let config = server_config(certificates(), TlsPolicy::Tls13, None, None).expect("builds");
        assert_eq!(config.max_early_data_size, 0);
        assert!(config.ticketer.enabled());
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        let chacha = |policy| {
            let config = server_config(certificates(), policy, None, None).expect("builds");
            let suites = config.crypto_provider().cipher_suites.iter().filter_map(|suite| suite.suite().as_str());
            suites.filter(|suite| suite.contains("CHACHA")).count()
        };
        assert_eq!((chacha(TlsPolicy::Tls12), chacha(TlsPolicy::Tls12Gcm)), (3, 1), "of TLS 1.3 alone");
    }
}
