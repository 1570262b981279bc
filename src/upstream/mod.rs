//! Sends requests to the apps behind, to whichever of an upstream's targets is best.
//!
//! One client for each upstream: its pool keeps connections to every target. A request goes
//! to another target where the first couldn't be reached, since nothing of it has left.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, Version, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tokio::time::Instant;

pub use self::target::InFlight;
use self::{
    sent::{Activity, Lent},
    target::Target,
};
use crate::{
    config::{self, Choice, Protocol},
    fault::chain,
    metrics::Metrics,
};

mod choice;
mod connect;
mod health;
mod sent;
mod target;

/// Tries of one request, the first included.
const TRIES: usize = 3;
/// What a retry costs, of what each request earns: a fifth of requests may be tried again,
/// and some besides, so that an upstream in trouble isn't sent more than it is.
const RETRY_COST: i64 = 10;
const REQUEST_EARNS: i64 = 2;
const MOST_SAVED: i64 = 200;

/// One upstream at work.
pub struct Upstream {
    name: String,
    targets: Vec<Arc<Target>>,
    choice: Choice,
    version: Version,
    client: Client<HttpsConnector<HttpConnector>, Lent>,
    idle: Duration,
    health: Option<config::Health>,
    turn: choice::Turn,
    saved: AtomicI64,
    metrics: Metrics,
}

/// An answer's head, with what counts it until its body ends.
pub struct Answer {
    /// The answer.
    pub response: Response<Incoming>,
    /// Until it is dropped the request counts as under way.
    pub in_flight: InFlight,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No target could be reached; the words are for the log.
    Unreachable(String),
    /// It was sent, and the target ended without an answer; the words are for the log.
    Broken(String),
    /// The client's own body broke off.
    Client(String),
    /// No byte went or came for so long.
    Idle(Duration),
}

impl Upstream {
    /// The upstream that `config` describes.
    ///
    /// # Errors
    /// What of its TLS can't be read.
    pub fn new(config: &config::Upstream, metrics: Metrics) -> Result<Arc<Self>, String> {
        let targets = config.targets.iter().map(|target| Arc::new(Target::new(target))).collect::<Vec<_>>();
        for target in &targets {
            metrics.upstream_healthy.with_label_values(&[&config.name, target.name()]).set(1);
        }
        let version = match config.protocol {
            Protocol::Http1 => Version::HTTP_11,
            Protocol::Http2 => Version::HTTP_2,
        };
        Ok(Arc::new(Self {
            name: config.name.clone(),
            turn: choice::Turn::new(targets.len()),
            targets,
            choice: config.choice,
            version,
            client: connect::client(config)?,
            idle: config.idle_timeout,
            health: config.health.clone(),
            saved: AtomicI64::new(MOST_SAVED / 2),
            metrics,
        }))
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long nothing may go or come.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// Looks after its targets; never ends by itself.
    pub async fn watch(self: Arc<Self>) {
        health::watch(&self).await;
    }

    /// Sends a request whose head has the path and headers that the target is to see.
    ///
    /// # Errors
    /// [`Failure`] says how far it came.
    pub async fn send<B>(&self, head: Parts, body: B) -> Result<Answer, Failure>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        self.saved.fetch_add(REQUEST_EARNS, Ordering::Relaxed);
        let lender = sent::Lender::new(body);
        let mut tried = Vec::new();
        loop {
            let Some(target) = self.pick(&tried) else {
                return Err(Failure::Unreachable("no target was left to try".into()));
            };
            let in_flight = InFlight::new(Arc::clone(&target), self.metrics.clone(), &self.name);
            let activity = Activity::new();
            let request = self.request(&head, &target, lender.lend(&activity));
            let failure = match self.within_idle(request, &activity).await {
                Ok(response) => {
                    target.answered();
                    let status = response.status().as_u16().to_string();
                    self.metrics.upstream_requests.with_label_values(&[&self.name, &status]).inc();
                    return Ok(Answer { response, in_flight });
                }
                Err(failure) => failure,
            };
            let label = match &failure {
                Failure::Unreachable(_) => "unreachable",
                Failure::Broken(_) => "broken",
                Failure::Client(_) => "client",
                Failure::Idle(_) => "timeout",
            };
            self.metrics.upstream_requests.with_label_values(&[&self.name, label]).inc();
            if let Failure::Client(_) = failure {
                return Err(failure);
            }
            if target.failed() {
                tracing::warn!(upstream = self.name, target = target.name(), "a target is left out for a while");
            }
            tried.push(target);
            let safe = match &failure {
                // Nothing of it has left.
                Failure::Unreachable(_) => lender.is_whole(),
                Failure::Broken(_) => lender.is_empty() && is_safe(&head.method),
                _ => false,
            };
            if !safe || tried.len() >= TRIES.min(self.targets.len().max(2)) || !self.may_retry() {
                return Err(failure);
            }
        }
    }

    /// The best of the targets that are fit and weren't tried; of all of them where none is fit.
    fn pick(&self, tried: &[Arc<Target>]) -> Option<Arc<Target>> {
        let now = Instant::now();
        let untried = |target: &&Arc<Target>| !tried.iter().any(|tried| Arc::ptr_eq(tried, target));
        let open: Vec<&Arc<Target>> = self.targets.iter().filter(|target| target.weight() > 0).collect();
        let fit: Vec<&Arc<Target>> = open.iter().copied().filter(|target| target.is_fit(now)).filter(untried).collect();
        let fit = if fit.is_empty() { open.into_iter().filter(untried).collect() } else { fit };
        // One target may be tried again: its connection may have been an old one.
        let fit = if fit.is_empty() && self.targets.len() == 1 { self.targets.iter().collect() } else { fit };
        self.turn.pick(self.choice, &fit).cloned()
    }

    fn request(&self, head: &Parts, target: &Target, body: Lent) -> Request<Lent> {
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        let mut uri = Uri::builder().scheme(target.scheme()).authority(target.authority());
        uri = uri.path_and_query(head.uri.path_and_query().map_or("/", |path| path.as_str()));
        // Each part was parsed before.
        *request.uri_mut() = uri.build().unwrap_or_default();
        *request.version_mut() = self.version;
        *request.headers_mut() = head.headers.clone();
        request
    }

    async fn within_idle(
        &self,
        request: Request<Lent>,
        activity: &Arc<Activity>,
    ) -> Result<Response<Incoming>, Failure> {
        let sending = self.client.request(request);
        tokio::pin!(sending);
        loop {
            let due = activity.last() + self.idle;
            tokio::select! {
                answer = &mut sending => return answer.map_err(|error| failure(&error, activity)),
                () = tokio::time::sleep_until(due) => {
                    if activity.last() + self.idle <= Instant::now() {
                        return Err(Failure::Idle(self.idle));
                    }
                }
            }
        }
    }

    fn may_retry(&self) -> bool {
        let spend = |saved: i64| (saved >= RETRY_COST).then(|| (saved - RETRY_COST).min(MOST_SAVED));
        let may = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok();
        let label = if may { "made" } else { "kept_back" };
        self.metrics.upstream_retries.with_label_values(&[&self.name, label]).inc();
        may
    }
}

fn failure(error: &hyper_util::client::legacy::Error, activity: &Activity) -> Failure {
    let words = chain(error);
    if activity.client_failed() {
        Failure::Client(words)
    } else if error.is_connect() {
        Failure::Unreachable(words)
    } else {
        Failure::Broken(words)
    }
}

/// Whether a request may be sent twice (RFC 9110, section 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}
