//! `tls` of a listener, as the rest of the program sees it.

use std::{path::PathBuf, time::Duration};

use super::SecretRef;

/// `tls` of a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// One for each table of `tls`: at least one, the default first; the others are chosen
    /// by the name a client asks for.
    pub certificates: Vec<Certificate>,
    /// `ticket_secret`, in the first table: the secret that session tickets come out of,
    /// the same for every replica. One of each process's own when absent.
    pub ticket_secret: Option<TicketSecret>,
    /// `client_auth` and what belongs to it, in the first table; nobody is asked for a
    /// certificate when absent.
    pub client_auth: Option<ClientAuth>,
    /// `policy`, in the first table: the versions and suites taken. Default `tls13`.
    pub policy: TlsPolicy,
}

/// Which clients' certificates are taken, and what becomes of them.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// `client_auth`
    pub mode: ClientMode,
    /// `client_trust`: the PEM file of the authorities that clients' certificates come
    /// from; none where they are handed on.
    pub trust: Option<PathBuf>,
    /// `client_revocation`: files of revocation lists. With any, every issuer below the
    /// trusted ones needs one.
    pub revocation: Vec<PathBuf>,
    /// `client_revocation_expiry = "enforce"`: whether a list past its next update admits nobody.
    pub revocation_expiry: bool,
    /// `client_refresh`: how often the files are looked at. Default 10 s.
    pub refresh: Duration,
}

/// What is asked of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMode {
    /// `request`: one that is sent must be good; none need be.
    Request,
    /// `require`: a good one.
    Require,
    /// `passthrough`: one that is sent is handed on, and not judged.
    PassThrough,
}

/// Where session tickets get their keys from.
#[derive(Clone, Debug)]
pub enum TicketSecret {
    /// A file of random bytes, read at start.
    File(PathBuf),
    /// A secret that is followed.
    Secret(SecretRef),
}

/// One certificate of a listener.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// `source`
    pub source: CertificateSource,
    /// `ocsp`: the file of an OCSP response in DER that is sent along.
    pub ocsp: Option<PathBuf>,
}

/// Where a certificate comes from.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// PEM files, watched.
    Files {
        /// Chain, leaf first.
        cert: PathBuf,
        /// PKCS#8, PKCS#1 or SEC1 key.
        key: PathBuf,
        /// `refresh`: how often they are looked at. Default 10 s.
        refresh: Duration,
    },
    /// A secret: a PEM bundle, or a JSON object with chain and key in fields.
    Secret {
        /// `name`: a `[[secret]]`, or else a name or an ARN of AWS Secrets Manager.
        name: String,
        /// `cert` and `key`: the fields of chain and key; one bundle when absent.
        fields: Option<(String, String)>,
    },
    /// An authority that speaks ACME.
    Acme(AcmeSource),
    /// AWS Certificate Manager.
    Acm {
        /// `arn`: the certificate's.
        arn: String,
        /// The region that the ARN names.
        region: String,
        /// `refresh`: about how often it is described. Default 3 hours.
        refresh: Duration,
    },
}

/// `source = { acme = { … } }`
#[derive(Clone, Debug)]
pub struct AcmeSource {
    /// `directory`: the authority's address.
    pub directory: String,
    /// `contact`: whom it may write to, as `mailto:` addresses; nobody when empty.
    pub contact: Vec<String>,
    /// `domains`: the names of the certificate; at least one.
    pub domains: Vec<String>,
    /// `challenge`: how the authority looks whether they are ours. Default `tls-alpn-01`.
    pub challenge: AcmeChallenge,
    /// `state`: the folder that account and certificate are kept in. Default `acme`.
    pub state: PathBuf,
    /// `root`: the authority of the directory's own certificate; the system's when absent.
    pub root: Option<PathBuf>,
}

/// How an authority looks whether a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// By a request on port 80, to a listener without `tls` (RFC 8555, section 8.3).
    Http01,
}

impl std::fmt::Display for AcmeChallenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        })
    }
}

/// The versions and suites a listener takes. The hybrid post-quantum group is offered by each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// `tls13`, or a load balancer's `ELBSecurityPolicy-TLS13-1-3-…`: TLS 1.3 only.
    Tls13,
    /// `tls12`: TLS 1.2 with forward secrecy and AEAD, and 1.3.
    Tls12,
    /// A load balancer's `ELBSecurityPolicy-TLS13-1-2-Res-…`: of 1.2 AES-GCM alone.
    Tls12Gcm,
}

/// What becomes of requests that two readers could read in two ways. What is over a limit is
/// refused whatever it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Desync {
    /// `strictest`: only what is as the RFCs want it passes.
    #[default]
    Strictest,
    /// `defensive`: what is ambiguous passes as well, and ends its connection.
    Defensive,
    /// `monitor`: all passes that can be parsed, and is counted.
    Monitor,
}
