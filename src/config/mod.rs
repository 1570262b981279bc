//! Turns text into values that cannot be wrong.
//!
//! [`Config`] is what the rest of the program sees: addresses are addresses,
//! sizes are bytes, durations are durations, names are checked, and what refers
//! to something refers to something that is there. Nothing above this room
//! parses configuration text.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

mod acme;
mod apps;
mod catalog;
mod classes;
mod clients;
mod document;
mod expand;
mod kms;
mod listening;
mod named;
mod quotas;
mod read;
mod report;
mod routes;
mod secrets;
#[cfg(test)]
mod tests;
mod tls;
mod traces;
mod units;
mod upstreams;

pub use apps::{
    Action, Choice, Forward, Forwarded, Group, HeaderEdits, Health, Host, Matching, Path, Protocol, Quota, QuotaBy,
    Redirect, Respond, Route, Sticky, Target, Upstream, UpstreamTls,
};
pub use catalog::{Away, Catalog, Database, DatabaseServer, DatabaseTls, Engine};
pub use document::Values;
pub use kms::is_key_arn;
pub use listening::{
    AcmeChallenge, AcmeSource, Certificate, CertificateSource, ClientAuth, ClientMode, Desync, TicketSecret, Tls,
    TlsPolicy,
};
pub use report::{Fault, Faults};
pub use traces::Traces;

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
    /// What one client may have.
    pub quotas: Vec<Quota>,
    /// What lies elsewhere under names, and is followed.
    pub secrets: Vec<Secret>,
    /// What is written down of objects, and where.
    pub catalog: Option<Catalog>,
    /// Who may call.
    pub identity: Identity,
    /// What bounds everything.
    pub limits: Limits,
    /// Metrics and health.
    pub admin: Admin,
    /// What is logged, and how.
    pub log: Log,
    /// Where traces of requests go; none are made when absent.
    pub traces: Option<Traces>,
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
    /// `desync`: what becomes of requests that could be read in two ways. Default `strictest`.
    pub desync: Desync,
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
    /// `freshness = "off" | "enforce"`: whether only what the catalogue knows as the newest is
    /// served. Default `off`.
    pub fresh: bool,
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

/// `[identity]`
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `tokens`: where `sealward token` keeps them. Needed unless every route is public.
    pub tokens: Option<Tokens>,
    /// `[[identity.mtls]]`: callers by their certificates; the first that fits.
    pub certified: Vec<Certified>,
}

/// Where access tokens are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// `tokens = "…"`: in this file.
    File(PathBuf),
    /// `tokens = { catalog = true }`: in the catalogue.
    Catalog,
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
    /// `drain_delay`: how long after SIGTERM connections are still taken, while `/readyz` says that we
    /// stop. Default 0 s.
    pub drain_delay: Duration,
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
            drain_delay: Duration::ZERO,
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
    /// `access`: a file with a line for each request; none when absent.
    pub access: Option<AccessLog>,
}

/// `access` of `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `path`: the file, which is opened anew on SIGHUP.
    pub path: PathBuf,
    /// `format = "alb" | "json"`. Default `alb`: the fields of an AWS load balancer, in its order.
    pub format: AccessFormat,
    /// `query`: whether what stands behind `?` is written. Default false, and never of a route that seals.
    pub query: bool,
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// As an AWS Application Load Balancer.
    Alb,
    /// One JSON object a line, with the same names.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into(), object_keys: LogObjectKeys::Plain, access: None }
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
