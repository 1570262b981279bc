//! Routes, and the apps behind them, as the rest of the program sees them.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use ipnet::IpNet;
use regex::Regex;

use crate::secret::SecretText;

/// `[[route]]`
#[derive(Clone, Debug)]
pub struct Route {
    /// How metrics and logs call it: its path, as it is written.
    pub label: String,
    /// Which requests are its.
    pub matching: Matching,
    /// `public`: no caller is asked for. Default false.
    pub public: bool,
    /// `quotas`: names in [`super::Config::quotas`]; each must let a request in.
    pub quotas: Vec<String>,
    /// `compress`: whether answers are compressed for clients that take it. Default false.
    pub compress: bool,
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
        /// A name in [`super::Config::classes`].
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
    /// `upstream`, or `groups`: where requests go, each with its share; at least one has one.
    pub groups: Vec<Group>,
    /// `sticky`: whether a client stays with the group it was sent to first.
    pub sticky: Option<Sticky>,
    /// `x_forwarded_for`: what becomes of that header. Default `append`.
    pub x_forwarded_for: Forwarded,
    /// `forwarded`: whether `Forwarded` (RFC 7239) is written too. Default false.
    pub forwarded: bool,
    /// `rewrite = { pattern, to }`: the path as the app sees it; the same when absent.
    pub rewrite: Option<(Regex, String)>,
    /// `x_forwarded_others`: what becomes of X-Forwarded-Proto, -Port and -Host. Default `append`,
    /// which says ours alone.
    pub x_forwarded_others: Forwarded,
    /// `host`: the host as the app sees it; the client's when absent.
    pub host: Option<http::HeaderValue>,
    /// `rewrite_host = { pattern, to }`: the same by a pattern, of the client's host and port.
    pub rewrite_host: Option<(Regex, String)>,
    /// `request`: what becomes of a request's headers, after all else.
    pub request: HeaderEdits,
    /// `response`: what becomes of an answer's.
    pub response: HeaderEdits,
}

/// One of the upstreams that a route's requests are shared among.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// A name in [`super::Config::upstreams`].
    pub upstream: String,
    /// `weight`: its share, 0 to 1,000; 0 takes no new clients. Default 1.
    pub weight: u32,
}

/// `sticky`: a cookie that leads a client to where it was before.
#[derive(Clone, Debug)]
pub struct Sticky {
    /// `cookie`: its name.
    pub cookie: String,
    /// `duration`: for how long; each answer begins it anew. Default 1 day.
    pub duration: Duration,
    /// `key`: what cookies are signed with, the same for every replica; one of each process's
    /// own when absent.
    pub key: Option<SecretText>,
}

impl PartialEq for Sticky {
    fn eq(&self, other: &Self) -> bool {
        let key = |sticky: &Self| sticky.key.as_ref().map(|key| key.expose().to_owned());
        (&self.cookie, self.duration) == (&other.cookie, other.duration) && key(self) == key(other)
    }
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

/// `[[quota]]`: what one client may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `name`: what routes, metrics and logs call it.
    pub name: String,
    /// `by`: who counts as one client. Default `address`.
    pub by: QuotaBy,
    /// `requests`: a second; any number when absent.
    pub requests: Option<NonZeroU32>,
    /// `burst`: requests at once after a quiet time. Default as many as `requests`.
    pub burst: Option<NonZeroU32>,
    /// `concurrent`: requests under way; any number when absent.
    pub concurrent: Option<NonZeroU32>,
    /// `bytes`: of bodies both ways, a second; any number when absent.
    pub bytes: Option<u64>,
    /// `burst_bytes`: after a quiet time. Default ten seconds' worth.
    pub burst_bytes: Option<u64>,
}

/// Who counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaBy {
    /// `address`: an IPv4 address, or an IPv6 network of 64 bits.
    Address,
    /// `caller`: by the name of its token or certificate; else its address.
    Caller,
    /// `certificate`: by its fingerprint; else its address.
    Certificate,
}

/// `[[upstream]]`
#[derive(Clone, Debug, PartialEq)]
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
    /// `head_timeout`: how long nothing may go or come before the head of an answer is there.
    /// Default `idle_timeout`.
    pub head_timeout: Duration,
    /// `sticky`: whether a client stays with the target it was sent to first.
    pub sticky: Option<Sticky>,
    /// `slow_start`: for how long a target that is new, or well again, gets less than its share,
    /// and more each second. Default 0: not at all.
    pub slow_start: Duration,
    /// `deregistration_delay`: how long requests may go on to a target that is no longer there.
    /// Default 300 s.
    pub deregistration_delay: Duration,
    /// `resolve`: how often names of targets are looked up. Default 30 s.
    pub resolve: Duration,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `roots`: the PEM file of the authorities believed; the system's when absent.
    pub roots: Option<PathBuf>,
    /// `cert` and `key`: what we show targets that ask.
    pub client: Option<(PathBuf, PathBuf)>,
    /// `server_name`: the name that is asked for and verified; the target's host when absent.
    pub server_name: Option<String>,
}

/// `health` of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
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
