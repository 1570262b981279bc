//! Sends requests to the apps behind, to whichever of an upstream's targets is best.
//!
//! One client for each upstream: its pool keeps connections to every target. A request goes
//! to another target where the first couldn't be reached, since nothing of it has left.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use prometheus::IntGauge;
use tokio::{sync::watch, time::Instant};

use self::{
    sent::{Activity, Lent},
    target::{Place, Target},
};
pub use self::{sticky::Cookies, target::InFlight};
use crate::{
    config::{self, Choice, Protocol},
    fault::chain,
    metrics::Metrics,
};

mod choice;
mod connect;
mod health;
mod resolve;
mod sent;
mod sticky;
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
    /// As they are configured: by address or by name.
    configured: Vec<config::Target>,
    /// As they are now.
    targets: ArcSwap<Vec<Arc<Target>>>,
    /// Moves when they change.
    changed: watch::Sender<()>,
    names: Arc<connect::Names>,
    choice: Choice,
    version: Version,
    client: Client<HttpsConnector<HttpConnector>, Lent>,
    idle: Duration,
    resolve: Duration,
    slow_start: Duration,
    deregistration_delay: Duration,
    sticky: Option<Cookies>,
    health: Option<config::Health>,
    turn: choice::Turn,
    saved: AtomicI64,
    in_flight: IntGauge,
    metrics: Metrics,
}

/// An answer's head, with what counts it until its body ends.
pub struct Answer {
    /// The answer.
    pub response: Response<Incoming>,
    /// Until it is dropped the request counts as under way.
    pub in_flight: InFlight,
    /// What leads the client to the same target again.
    pub cookie: Option<HeaderValue>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No target could be reached; the words are for the log.
    Unreachable(String),
    /// It was sent, and the target ended without an answer; the words are for the log.
    Broken(String),
    /// The client's own body failed; that failure is among its causes.
    Client(Box<dyn std::error::Error + Send + Sync>),
    /// No byte went or came for so long.
    Idle(Duration),
}

impl Upstream {
    /// The upstream that `config` describes; `before` is the one of that name until now, whose
    /// targets go on as they fare.
    ///
    /// # Errors
    /// What of its TLS can't be read.
    pub fn new(config: &config::Upstream, before: Option<&Self>, metrics: Metrics) -> Result<Arc<Self>, String> {
        let version = match config.protocol {
            Protocol::Http1 => Version::HTTP_11,
            Protocol::Http2 => Version::HTTP_2,
        };
        let names = Arc::new(connect::Names::default());
        let upstream = Self {
            name: config.name.clone(),
            configured: config.targets.clone(),
            targets: ArcSwap::from_pointee(before.map_or_else(Vec::new, |before| before.targets.load().to_vec())),
            changed: watch::Sender::new(()),
            client: connect::client(config, Arc::clone(&names))?,
            names,
            choice: config.choice,
            version,
            idle: config.idle_timeout,
            resolve: config.resolve,
            slow_start: config.slow_start,
            deregistration_delay: config.deregistration_delay,
            sticky: config.sticky.as_ref().map(|sticky| Cookies::new(sticky, &config.name)),
            health: config.health.clone(),
            turn: choice::Turn::default(),
            saved: AtomicI64::new(MOST_SAVED / 2),
            in_flight: metrics.upstream_in_flight.with_label_values(&[&config.name]),
            metrics,
        };
        let places = upstream.configured.iter().flat_map(|target| {
            // Names that were looked up already are known.
            let known = upstream.places_of(target);
            let places = if known.is_empty() { vec![resolve::unresolved(target)] } else { known };
            places.into_iter().map(|place| (place, target.weight))
        });
        let places = places.collect();
        upstream.put(places, before.is_some());
        Ok(Arc::new(upstream))
    }

    /// Where `target` is, as far as it is known.
    fn places_of(&self, target: &config::Target) -> Vec<Place> {
        let ours = |place: &&Place| place.of == target.authority && place.https == target.https;
        self.targets.load().iter().map(|target| target.place()).filter(ours).cloned().collect()
    }

    /// Has other targets from now on. Those that are the same go on as they fare.
    fn put(&self, places: Vec<(Place, u32)>, others: bool) -> Vec<Arc<Target>> {
        let old = self.targets.load_full();
        let mut new: Vec<Arc<Target>> = Vec::with_capacity(places.len());
        let mut names = HashMap::new();
        for (place, weight) in places {
            if let Ok(authority) = place.of.parse::<http::uri::Authority>() {
                names.insert(place.authority.clone(), authority.host().to_owned());
            }
            let target =
                |before: Option<&Arc<Target>>| Target::new(place.clone(), weight, before.map(|b| &**b), others);
            let fresh = target(None);
            // Two names may lead to one place.
            if new.iter().any(|other| other.name() == fresh.name()) {
                continue;
            }
            let before = old.iter().find(|other| other.name() == fresh.name());
            let target = Arc::new(if before.is_some() { target(before) } else { fresh });
            if before.is_none() {
                self.metrics.upstream_healthy.with_label_values(&[&self.name, target.name()]).set(1);
            }
            new.push(target);
        }
        let gone = old.iter().filter(|old| !new.iter().any(|new| new.name() == old.name())).cloned().collect();
        self.names.store(Arc::new(names));
        self.targets.store(Arc::new(new));
        self.changed.send_replace(());
        gone
    }

    /// As names are looked up now.
    fn replace(&self, places: Vec<(Place, u32)>) {
        let now: Vec<(Place, u32)> =
            self.targets.load().iter().map(|target| (target.place().clone(), target.weight())).collect();
        if now == places {
            return;
        }
        // A name that is looked up for the first time brings nothing new.
        let first = now.iter().any(|(place, _)| place.authority == place.of && place.of.parse::<SocketAddr>().is_err());
        for gone in self.put(places, !first) {
            self.retire(gone);
        }
    }

    /// What is no longer in `next` gets no requests; those under way have the deregistration delay.
    pub fn retire_but(&self, next: Option<&Self>) {
        let kept = next.map(|next| next.targets.load_full()).unwrap_or_default();
        for target in self.targets.load().iter() {
            if !kept.iter().any(|kept| kept.name() == target.name()) {
                self.retire(Arc::clone(target));
            }
        }
    }

    fn retire(&self, target: Arc<Target>) {
        let (upstream, metrics, delay) = (self.name.clone(), self.metrics.clone(), self.deregistration_delay);
        tracing::info!(upstream, target = target.name(), under_way = target.load(), "a target is no longer there");
        let _ = metrics.upstream_healthy.remove_label_values(&[&upstream, target.name()]);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let left = target.load();
            if left > 0 {
                tracing::warn!(upstream, target = target.name(), left, "requests to a target that is gone are cut");
            }
            target.cut();
        });
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
        tokio::join!(health::watch(&self), resolve::watch(&self));
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
        let mut bound = self.sticky.as_ref().and_then(|cookies| self.bound(cookies, &head.headers));
        loop {
            // Where it was before, unless that doesn't answer.
            let Some(target) = bound.take().or_else(|| self.pick(&tried)) else {
                return Err(Failure::Unreachable("no target was left to try".into()));
            };
            let in_flight = InFlight::new(Arc::clone(&target), self.in_flight.clone());
            let activity = Activity::new();
            let request = self.request(&head, &target, lender.lend(&activity));
            let failure = match self.within_idle(request, &activity, &in_flight).await {
                Ok(response) => {
                    target.answered();
                    let status = response.status().as_u16().to_string();
                    self.metrics.upstream_requests.with_label_values(&[&self.name, &status]).inc();
                    let cookie = self.sticky.as_ref().and_then(|cookies| cookies.set(target.name()));
                    return Ok(Answer { response, in_flight, cookie });
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
            if !safe || tried.len() >= TRIES.min(self.targets.load().len().max(2)) || !self.may_retry() {
                return Err(failure);
            }
        }
    }

    /// The target that the client's cookie leads to, while it is fit.
    fn bound(&self, cookies: &Cookies, headers: &HeaderMap) -> Option<Arc<Target>> {
        let targets = self.targets.load();
        let at = cookies.find(headers, targets.iter().map(|target| target.name()))?;
        let target = targets.get(at).filter(|target| target.is_fit(Instant::now()))?;
        Some(Arc::clone(target))
    }

    /// The best of the targets that are fit and weren't tried; of all of them where none is fit.
    fn pick(&self, tried: &[Arc<Target>]) -> Option<Arc<Target>> {
        let now = Instant::now();
        let targets = self.targets.load();
        let untried = |target: &&Arc<Target>| !tried.iter().any(|tried| tried.name() == target.name());
        let open = || targets.iter().filter(|target| target.weight() > 0);
        let mut fit: Vec<&Arc<Target>> = open().filter(|target| target.is_fit(now)).filter(untried).collect();
        if fit.is_empty() {
            fit = open().filter(untried).collect();
        }
        // One target may be tried again: its connection may have been an old one.
        if fit.is_empty() && targets.len() == 1 {
            fit = targets.iter().collect();
        }
        let fit: Vec<_> = fit.into_iter().map(|target| (target, target.share(now, self.slow_start))).collect();
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
        if !head.headers.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::from_str(&target.place().of)
        {
            // HTTP/1.0 may do without, and what goes on is 1.1 (RFC 9112, section 3.2).
            request.headers_mut().insert(header::HOST, host);
        }
        request
    }

    async fn within_idle(
        &self,
        request: Request<Lent>,
        activity: &Arc<Activity>,
        in_flight: &InFlight,
    ) -> Result<Response<Incoming>, Failure> {
        let sending = self.client.request(request);
        let cut = in_flight.cut();
        tokio::pin!(sending, cut);
        loop {
            let due = activity.last() + self.idle;
            tokio::select! {
                answer = &mut sending => return answer.map_err(|error| failure(error, activity)),
                () = &mut cut => return Err(Failure::Broken("the target is gone, and its time over".into())),
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

fn failure(error: hyper_util::client::legacy::Error, activity: &Activity) -> Failure {
    let words = chain(&error);
    if activity.client_failed() {
        Failure::Client(Box::new(error))
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
