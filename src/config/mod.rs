//! Turns text into values that cannot be wrong.
//!
//! [`Config`] is what the rest of the program sees: addresses are addresses,
//! sizes are bytes, durations are durations, names are checked, and what refers
//! to something refers to something that is there. Nothing above this room
//! parses configuration text.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use regex::Regex;

mod acme;
mod classes;
mod clients;
mod document;
mod expand;
mod kms;
mod read;
mod report;
mod routes;
mod secrets;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod upstreams;

pub use document::Values;
pub use kms::is_key_arn;
pub use report::{Fault, Faults};

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients come in; at least one.
    pub listeners: Vec<Listener>,
    /// Where data keys come from; present when a class exists.
    pub keys: Option<Keys>,
    /// The data classifications.
    pub classes: Vec<Class>,
    /// Which request goes where; the longest matching path wins, then the first written.
    pub routes: Vec<Route>,
    /// The apps behind.
    pub upstreams: Vec<Upstream>,
    /// What lies elsewhere under names, and is followed.
    pub secrets: Vec<Secret>,
    /// Who may call.
    pub identity: Identity,
    /// What bounds everything.
    pub limits: Limits,
    /// Metrics and health.
    pub admin: Admin,
    /// What is logged, and how.
    pub log: Log,
}

/// `[[listener]]`
#[derive(Clone, Debug)]
pub struct Listener {
    /// `bind`: address and port.
    pub bind: SocketAddr,
    /// `tls`; one without answers http-01 and sends everybody else to https.
    pub tls: Option<Tls>,
    /// `proxy_protocol = { from = [...] }`: the networks whose connections begin with a
    /// header of the PROXY protocol, version 2; none when absent.
    pub balancers: Option<Vec<IpNet>>,
}

impl Listener {
    /// What logs and metrics call its certificate number `at`: the listener's address, and
    /// for every further one its place in the list, from 2.
    pub fn certificate(&self, at: usize) -> String {
        match at {
            0 => self.bind.to_string(),
            _ => format!("{}#{}", self.bind, at + 1),
        }
    }
}

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

/// `[[secret]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// `name`: what the rest of the file, metrics and logs call it.
    pub name: String,
    /// `source`
    pub source: SecretSource,
    /// `refresh`: about how often it is looked at. Default 5 minutes, and 10 s of a file.
    pub refresh: Duration,
    /// `region`: that of the service; that of its ARN, of `[keys]` or of the environment when absent.
    pub region: Option<String>,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `secrets_manager`: a name or an ARN of AWS Secrets Manager.
    Manager(String),
    /// `parameter`: a `SecureString` of SSM Parameter Store.
    Parameter(String),
    /// `file`: its content, without the last line feed.
    File(PathBuf),
    /// `env`: a variable of the environment.
    Env(String),
}

/// `{ secret = "name", field = "…" }`: a secret that is followed while we serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// A name in [`Config::secrets`].
    pub name: String,
    /// A field of its JSON object; the whole of it when absent.
    pub field: Option<String>,
}

/// What became of a text.
#[derive(Debug)]
pub enum Parsed {
    /// All is there.
    Whole(Box<Config>),
    /// These secrets have to be fetched first: values of the text come out of them.
    Wanting(Vec<Secret>),
}

/// The text of a configuration, and where it stands.
#[derive(Clone)]
pub struct Text {
    content: String,
    origin: String,
    base: PathBuf,
}

impl Text {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// One fault, that it can't be read.
    pub fn read(path: &std::path::Path) -> Result<Self, Faults> {
        read::text(path)
    }

    /// `text`, which `origin` names in faults, and below whose `base` relative paths stand.
    pub fn new(text: &str, origin: &str, base: &std::path::Path) -> Self {
        Self { content: text.to_owned(), origin: origin.to_owned(), base: base.to_owned() }
    }

    /// Reads and checks it, with `values` of secrets.
    ///
    /// # Errors
    /// Every fault in one go, each with its line and a mend.
    pub fn parse(&self, values: Values<'_>) -> Result<Parsed, Faults> {
        read::parse_in(self, &expand::process, values)
    }
}

/// `[keys]`
#[derive(Clone, Debug)]
pub struct Keys {
    /// `provider`, and what belongs to it.
    pub provider: KeyProvider,
    /// The bounds on sharing data keys.
    pub cache: KeyCache,
}

/// Who wraps data keys.
#[derive(Clone, Debug)]
pub enum KeyProvider {
    /// `provider = "local"`: the SDK's Raw AES keyring, from a file.
    Local {
        /// `keyring`: the keyring file.
        keyring: PathBuf,
    },
    /// `provider = "kms"`: AWS KMS.
    Kms {
        /// `region`: goes before `AWS_REGION`, for S3 too.
        region: Option<String>,
        /// `endpoint`: goes before `AWS_ENDPOINT_URL_KMS` and `AWS_ENDPOINT_URL`.
        endpoint: Option<String>,
        /// `key_check`: how often KMS is asked whether a class's key can be used. Default 1 hour.
        key_check: Duration,
    },
}

/// How long, and for how much, one data key may be used. Its keys stand in `[keys]`.
#[derive(Clone, Copy, Debug)]
pub struct KeyCache {
    /// `max_age`: default and most 5 minutes.
    pub max_age: Duration,
    /// `max_messages`: default and most 10,000; 1 turns sharing off.
    pub max_messages: u64,
    /// `max_bytes`: default and most 1 TiB.
    pub max_bytes: u64,
    /// `unwrapped_entries`: how many unwrapped keys are kept. Default 10,000.
    pub unwrapped_entries: u64,
    /// `unwrapped_age`: for how long. Default 5 minutes, most 1 hour.
    pub unwrapped_age: Duration,
}

impl Default for KeyCache {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            max_messages: 10_000,
            max_bytes: 1 << 40,
            unwrapped_entries: 10_000,
            unwrapped_age: Duration::from_secs(300),
        }
    }
}

/// `[[class]]`: a data classification.
#[derive(Clone, Debug)]
pub struct Class {
    /// `name`: 1 to 64 of `a-z 0-9 - _`, never changed once used.
    pub name: String,
    /// `read_names`: names the class had before, still read.
    pub read_names: Vec<String>,
    /// `vault`: the logical place, 1 to 64 of `a-z 0-9 - _ .`. Default: the class's name.
    pub vault: String,
    /// `directory`: the filesystem store's root.
    pub place: Place,
    /// `prefix`: what every name begins with; empty or ending in `/`, at most 512 bytes. Default empty.
    pub prefix: String,
    /// `binding = "message-id" | "strict"`. Default `message-id`.
    pub binding: Binding,
    /// `metadata = "sealed" | "plain"`. Default `sealed`.
    pub metadata: Metadata,
    /// `frame_length`: bytes, a multiple of 4 KiB up to 4 MiB. Default 256 KiB.
    pub frame_length: u32,
    /// `max_size`: plaintext bytes of one object, at most `frame_length` × (2^32 - 2). Default 1 TiB.
    pub max_size: u64,
    /// `write_key`: the local keyring's key that seals. Default: its first.
    pub write_key: Option<String>,
    /// `kms_key`: the KMS key that seals, as ARN or `alias/…`; required with
    /// `provider = "kms"`, and then that of the bucket's own encryption too.
    pub kms_key: Option<String>,
    /// `recipients`: further keys, by which every object can be opened besides: KMS
    /// ARNs or aliases, or names of the keyring.
    pub recipients: Vec<String>,
    /// `read_keys`: `namespace/name` of the keys that may open. Default: every key of the keyring.
    pub read_keys: Option<Vec<String>>,
    /// `canary = "full" | "seal" | "off"`: what is proved at start. Default `full`.
    pub canary: Canary,
    /// `allow_public_cache`: whether an uploader's `Cache-Control: public` stands. Default false.
    pub allow_public_cache: bool,
}

/// Where a class's objects rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `directory = "…"`
    Directory(PathBuf),
    /// `bucket = "…"`, and how it is used.
    Bucket(Bucket),
}

/// A bucket of S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// `bucket`: its name.
    pub name: String,
    /// `sse = "aws:kms" | "aws:kms:dsse"`: what S3 is asked to encrypt with.
    pub sse: Sse,
    /// `require_sse_kms`: whether S3's answers must say that it did. Default true.
    pub require_sse_kms: bool,
    /// `delete = "marker" | "versions"`: what a removal leaves.
    pub delete: Delete,
    /// `exclusive`: whether nobody else writes below the class's prefix, so that
    /// uploads left unfinished there are ours to abort. Default false.
    pub exclusive: bool,
    /// `orphan_after`: how old an unfinished upload is then, at least 1 day. Default 7 days.
    pub orphan_after: Duration,
}

/// What S3 encrypts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sse {
    /// SSE-KMS with a bucket key.
    Kms,
    /// Dual-layer SSE-KMS.
    KmsDsse,
}

/// What a removal leaves in a bucket that keeps versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delete {
    /// The older versions, behind S3's marker.
    Marker,
    /// Nothing.
    Versions,
}

/// How an object is bound to its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// By the message id alone: data keys can be shared.
    MessageId,
    /// By the encryption context too: one data key an object, and the name in the key service's log.
    Strict,
}

/// Whether names, types and labels are sealed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// Sealed (default).
    Sealed,
    /// As the store keeps them.
    Plain,
}

/// What a class proves at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Seal, store, read raw, open, remove.
    Full,
    /// Seal and store only: a write-only replica can't read back.
    Seal,
    /// Nothing.
    Off,
}

/// `[[route]]`
#[derive(Clone, Debug)]
pub struct Route {
    /// How metrics and logs call it: its path, as it is written.
    pub label: String,
    /// Which requests are its.
    pub matching: Matching,
    /// `public`: no caller is asked for. Default false.
    pub public: bool,
    /// What is done.
    pub action: Action,
}

/// What of a request a route looks at; all of it must fit.
#[derive(Clone, Debug)]
pub struct Matching {
    /// `path` or `path_pattern`
    pub path: Path,
    /// `host`: any when absent.
    pub host: Option<Host>,
    /// `methods`: any when empty.
    pub methods: Vec<http::Method>,
    /// `headers`: each is there, and one of its values fits the pattern.
    pub headers: Vec<(http::HeaderName, Regex)>,
    /// `query`: each parameter is there, and one of its values fits.
    pub query: Vec<(String, Regex)>,
    /// `sources`: the client's address is in one of these networks; any when empty.
    pub sources: Vec<IpNet>,
    /// `priority`: 1 to 50,000; the least is tried first, and what has none after all that do.
    pub priority: Option<u32>,
}

/// A route's path, decoded.
#[derive(Clone, Debug)]
pub enum Path {
    /// This path alone.
    Exact(String),
    /// What begins so; it ends in `/`.
    Prefix(String),
    /// What fits as a whole.
    Pattern(Regex),
}

/// A route's host, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// This name or address.
    Exact(String),
    /// `*.domain`: every name below, however deep.
    Below(String),
}

impl Matching {
    /// Whether two match the same requests, as far as can be told.
    pub fn is_alike(&self, other: &Self) -> bool {
        let path = match (&self.path, &other.path) {
            (Path::Exact(one), Path::Exact(other)) | (Path::Prefix(one), Path::Prefix(other)) => one == other,
            (Path::Pattern(one), Path::Pattern(other)) => one.as_str() == other.as_str(),
            _ => false,
        };
        path && self.host == other.host
            && self.methods == other.methods
            && same(&self.headers, &other.headers)
            && same(&self.query, &other.query)
            && self.sources == other.sources
    }
}

fn same<N: PartialEq>(one: &[(N, Regex)], other: &[(N, Regex)]) -> bool {
    let alike = |((one, a), (other, b)): (&(N, Regex), &(N, Regex))| one == other && a.as_str() == b.as_str();
    one.len() == other.len() && one.iter().zip(other).all(alike)
}

/// What a route does.
#[derive(Clone, Debug)]
pub enum Action {
    /// `seal = { class = "…" }`
    Seal {
        /// A name in [`Config::classes`].
        class: String,
    },
    /// `forward = { upstream = "…" }`
    Forward(Box<Forward>),
    /// `redirect = { to = "…" }`
    Redirect(Redirect),
    /// `respond = { status, body }`
    Respond(Respond),
}

/// `forward = { upstream = "…" }`
#[derive(Clone, Debug)]
pub struct Forward {
    /// A name in [`Config::upstreams`].
    pub upstream: String,
    /// `x_forwarded_for`: what becomes of that header. Default `append`.
    pub x_forwarded_for: Forwarded,
    /// `forwarded`: whether `Forwarded` (RFC 7239) is written too. Default false.
    pub forwarded: bool,
    /// `rewrite = { pattern, to }`: the path as the app sees it; the same when absent.
    pub rewrite: Option<(Regex, String)>,
    /// `host`: the host as the app sees it; the client's when absent.
    pub host: Option<http::HeaderValue>,
    /// `request`: what becomes of a request's headers, after all else.
    pub request: HeaderEdits,
    /// `response`: what becomes of an answer's.
    pub response: HeaderEdits,
}

/// `{ remove = […], set = { … }, add = { … } }`, in this order.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    /// `remove`
    pub remove: Vec<http::HeaderName>,
    /// `set`: in place of what is there.
    pub set: Vec<(http::HeaderName, http::HeaderValue)>,
    /// `add`: beside what is there.
    pub add: Vec<(http::HeaderName, http::HeaderValue)>,
}

impl HeaderEdits {
    /// Does them.
    pub fn apply(&self, headers: &mut http::HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

/// What becomes of `X-Forwarded-For`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The client's address goes behind what it says itself.
    Append,
    /// It goes on as it came.
    Preserve,
    /// It is taken away.
    Remove,
}

/// `redirect = { to = "…" }`
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `to`: an address or a path, with `{host}`, `{path}` and `{query}` for the request's own.
    pub to: String,
    /// `status`: 301, 302, 307 or 308, the default.
    pub status: http::StatusCode,
}

/// `respond = { status, body }`
#[derive(Clone, Debug)]
pub struct Respond {
    /// `status`. Default 200.
    pub status: http::StatusCode,
    /// `body`. Default empty.
    pub body: String,
    /// `content_type`. Default `text/plain; charset=utf-8`.
    pub content_type: String,
}

/// `[[upstream]]`
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `name`: what routes, metrics and logs call it.
    pub name: String,
    /// `targets`: at least one, of which one has a weight.
    pub targets: Vec<Target>,
    /// `choice`: which of them. Default `round_robin`.
    pub choice: Choice,
    /// `protocol`: what is spoken to them. Default `http1`.
    pub protocol: Protocol,
    /// `tls`: for targets with `https`.
    pub tls: UpstreamTls,
    /// `health`: active checks; none when absent.
    pub health: Option<Health>,
    /// `connect_timeout`. Default 5 s.
    pub connect_timeout: Duration,
    /// `idle_timeout`: how long nothing may go or come. Default 60 s.
    pub idle_timeout: Duration,
}

/// One target of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether TLS is spoken to it.
    pub https: bool,
    /// Host and port.
    pub authority: String,
    /// `weight`: its share, 0 to 1,000; 0 takes no new requests. Default 1.
    pub weight: u32,
}

/// Which target a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `round_robin`: each in its turn, by weight.
    RoundRobin,
    /// `least_requests`: the one with the fewest requests under way, by weight.
    LeastRequests,
    /// `two_choices`: the less busy of two at random.
    TwoChoices,
}

/// What is spoken to targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2, by prior knowledge where there is no TLS: gRPC.
    Http2,
}

/// `tls` of an upstream.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTls {
    /// `roots`: the PEM file of the authorities believed; the system's when absent.
    pub roots: Option<PathBuf>,
    /// `cert` and `key`: what we show targets that ask.
    pub client: Option<(PathBuf, PathBuf)>,
    /// `server_name`: the name that is asked for and verified; the target's host when absent.
    pub server_name: Option<String>,
}

/// `health` of an upstream.
#[derive(Clone, Debug)]
pub struct Health {
    /// `path`. Default `/`.
    pub path: String,
    /// `codes`: the statuses that are good. Default `200-399`.
    pub codes: Vec<(u16, u16)>,
    /// `interval`. Default 10 s, a quarter more or less.
    pub interval: Duration,
    /// `timeout`. Default 5 s.
    pub timeout: Duration,
    /// `healthy`: good answers in a row that make a target well again. Default 2.
    pub healthy: u32,
    /// `unhealthy`: bad ones that make it unwell. Default 3.
    pub unhealthy: u32,
}

/// `[identity]`
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `tokens`: the file that `sealward token` writes. Needed unless every route is public.
    pub tokens: Option<PathBuf>,
    /// `[[identity.mtls]]`: callers by their certificates; the first that fits.
    pub certified: Vec<Certified>,
}

/// `[[identity.mtls]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// `name`: what the log calls the caller.
    pub name: String,
    /// Which certificates are theirs.
    pub bears: Bears,
    /// `listener`: on this address alone; on any when absent.
    pub listener: Option<SocketAddr>,
    /// `classes`: every one when empty.
    pub classes: BTreeSet<String>,
    /// `actions`: of read, write, delete, list and share; every one when empty.
    pub actions: BTreeSet<String>,
}

/// What kind a subject alternative name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum San {
    /// `dNSName`
    Dns,
    /// `uniformResourceIdentifier`
    Uri,
    /// `rfc822Name`
    Mail,
}

/// What a certificate must bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bears {
    /// `san`: this subject alternative name.
    Name(San, String),
    /// `subject`: these attributes, each once, by OID.
    Subject(Vec<(String, String)>),
    /// `fingerprint`: SHA-256 of the certificate, in lower-case hexadecimal.
    Fingerprint(String),
    /// `any = true`: nothing more than that it is trusted.
    Anything,
}

/// `[limits]`
#[derive(Clone, Debug)]
pub struct Limits {
    /// `buffer_memory`: all part and frame buffers together. Default 256 MiB, at least 32 MiB.
    pub buffer_memory: usize,
    /// `buffer_wait`: how long a new upload waits in line for memory. Default 30 s.
    pub buffer_wait: Duration,
    /// `max_part`: the largest part an upload of unknown length grows to, 5 MiB to 5 GiB and no
    /// more than `buffer_memory`. Default 64 MiB, or a quarter of `buffer_memory` if that is less.
    pub max_part: u64,
    /// `uploads`: at once. Default 1,024.
    pub uploads: usize,
    /// `connections`: at once, all listeners. Default 16,384.
    pub connections: usize,
    /// `handshake_timeout`. Default 10 s.
    pub handshake_timeout: Duration,
    /// `header_timeout`: for a request's head. Default 10 s.
    pub header_timeout: Duration,
    /// `idle_timeout`: a connection with no request. Default 60 s.
    pub idle_timeout: Duration,
    /// `body_idle_timeout`: no byte of a body while we read. Default 30 s.
    pub body_idle_timeout: Duration,
    /// `send_idle_timeout`: a client that takes no byte of an answer. Default 60 s.
    pub send_idle_timeout: Duration,
    /// `min_body_rate`: bytes a second, judged after `body_idle_timeout`. Default 1 KiB; 0 turns it off.
    pub min_body_rate: u64,
    /// `header_bytes`: a request's whole head, at least 8 KiB. Default and most 64 KiB.
    pub header_bytes: usize,
    /// `drain_timeout`: how long requests may go on after SIGTERM. Default 60 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            buffer_memory: 256 << 20,
            buffer_wait: Duration::from_secs(30),
            max_part: 64 << 20,
            uploads: 1024,
            connections: 16_384,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(30),
            send_idle_timeout: Duration::from_secs(60),
            min_body_rate: 1024,
            header_bytes: 64 << 10,
            drain_timeout: Duration::from_secs(60),
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct Admin {
    /// `bind`: plain HTTP. Default 127.0.0.1:9464.
    pub bind: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { bind: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// `format = "text" | "json"`. Default `text`.
    pub format: LogFormat,
    /// `level`: a tracing filter. Default `info`.
    pub level: String,
    /// `object_keys = "plain" | "hashed" | "omitted"`. Default `plain`.
    pub object_keys: LogObjectKeys,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into(), object_keys: LogObjectKeys::Plain }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// How an object's name appears in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogObjectKeys {
    /// As it is.
    Plain,
    /// SHA-256 of it, the first 16 hex digits.
    Hashed,
    /// Not at all.
    Omitted,
}

impl Config {
    /// Reads and checks the file at `path`, none of whose values comes out of a secret.
    ///
    /// # Errors
    /// Every fault in one go, each with its line and a mend.
    pub fn load(path: &std::path::Path) -> Result<Self, Faults> {
        read::whole(&Text::read(path)?, &expand::process)
    }

    /// Reads and checks `text`; `origin` names it in faults, and relative paths
    /// in it stand below `base`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, origin: &str, base: &std::path::Path) -> Result<Self, Faults> {
        read::whole(&Text::new(text, origin, base), &expand::process)
    }

    /// The class called `name`.
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.iter().find(|class| class.name == name)
    }

    /// Every name that messages of this configuration's classes may bear.
    pub fn class_names(&self) -> BTreeSet<&str> {
        self.classes.iter().map(|class| class.name.as_str()).collect()
    }
}
