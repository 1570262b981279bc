//! Sends requests to the apps behind, to whichever of an upstream's targets is best.
//!
//! Each target has a pool of connections. A request goes
//! to another target where the first couldn't be reached, since nothing of it has left.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, request::Parts};
use http_body::Body;
use prometheus::IntGauge;
use tokio::{sync::watch, time::Instant};

pub use self::{coming::Coming, connect::Connections, sticky::Cookies, target::InFlight};
use self::{
    connect::Connector,
    sent::Activity,
    target::{From, Place, Target},
};
use crate::{
    config::{self, Choice, Protocol},
    metrics::Metrics,
};

mod choice;
mod coming;
mod connect;
mod exchange;
mod health;
mod link;
mod one;
mod pool;
mod resolve;
mod sent;
mod shared;
mod sticky;
mod target;

/// Tries of one request, the first included.
const TRIES: usize = 3;
/// What a retry costs, of what each request earns: a fifth of requests may be tried again,
/// and some besides, so that an upstream in trouble isn't sent more than it is.
const RETRY_COST: i64 = 10;
const REQUEST_EARNS: i64 = 2;
const MOST_SAVED: i64 = 200;

/// What is kept of a body until its answer begins, where a target may send it back; bytes.
const KEPT: usize = 64 << 10;

/// How often connections that wait are looked at.
const TIDY: Duration = Duration::from_secs(10);

/// One upstream at work.
pub struct Upstream {
    name: String,
    /// As they are configured: by address or by name.
    configured: Vec<config::Target>,
    /// As they are now.
    targets: ArcSwap<Vec<Arc<Target>>>,
    /// Moves when they change.
    changed: watch::Sender<()>,
    choice: Choice,
    connector: Connector,
    idle: Duration,
    head: Duration,
    resolve: Duration,
    slow_start: Duration,
    deregistration_delay: Duration,
    sticky: Option<Cookies>,
    health: Option<config::Health>,
    turn: choice::Turn,
    saved: AtomicI64,
    in_flight: IntGauge,
    /// Counts checks, which are nobody's requests.
    checks: IntGauge,
    metrics: Metrics,
}

/// An answer's head, with what counts it until its body ends.
pub struct Answer {
    /// The answer.
    pub response: Response<Coming>,
    /// The target that gives it.
    target: Arc<Target>,
    /// What leads the client to the same target again.
    pub cookie: Option<HeaderValue>,
    /// Whether it is no success, and came before the whole of the request's body had been given out.
    pub early: bool,
}

impl Answer {
    /// The address of the target that gives it.
    pub fn target(&self) -> &str {
        &self.target.place().authority
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No target could be reached; the words are for the log.
    Unreachable(String),
    /// No connection could be made for lack of something here; the words are for the log.
    Ours(String),
    /// The target says that it did nothing of it, and never will; the words are for the log.
    Refused {
        /// What it says.
        words: String,
        /// Whether it has said goodbye on the whole connection.
        goodbye: bool,
    },
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
    pub fn new(
        config: &config::Upstream,
        before: Option<&Self>,
        connections: Connections,
        metrics: Metrics,
    ) -> Result<Arc<Self>, String> {
        let checks = IntGauge::new("checks", "checks").map_err(|error| error.to_string())?;
        let upstream = Self {
            name: config.name.clone(),
            configured: config.targets.clone(),
            targets: ArcSwap::from_pointee(before.map_or_else(Vec::new, |before| before.targets.load().to_vec())),
            changed: watch::Sender::new(()),
            connector: Connector::new(
                config,
                connections,
                metrics.upstream_connections.with_label_values(&[&config.name]),
            )?,
            choice: config.choice,
            idle: config.idle_timeout,
            head: config.head_timeout,
            resolve: config.resolve,
            slow_start: config.slow_start,
            deregistration_delay: config.deregistration_delay,
            sticky: config.sticky.as_ref().map(|sticky| Cookies::new(sticky, &config.name)),
            health: config.health.clone(),
            turn: choice::Turn::default(),
            saved: AtomicI64::new(MOST_SAVED / 2),
            in_flight: metrics.upstream_in_flight.with_label_values(&[&config.name]),
            checks,
            metrics,
        };
        let places = upstream.configured.iter().flat_map(|target| {
            // Names that were looked up already are known.
            let known = upstream.places_of(target);
            let places = if known.is_empty() { vec![resolve::unresolved(target)] } else { known };
            places.into_iter().map(|place| (place, target.weight))
        });
        let places = places.collect();
        upstream.put(places, before.is_some(), false);
        if upstream.health.is_none() {
            // Nobody would find a target well again.
            for target in upstream.targets.load().iter() {
                target.found(true);
                upstream.metrics.upstream_healthy.with_label_values(&[&upstream.name, target.name()]).set(1);
            }
        }
        let upstream = Arc::new(upstream);
        upstream.connector.connections.join(&upstream);
        Ok(upstream)
    }

    /// Where `target` is, as far as it is known.
    fn places_of(&self, target: &config::Target) -> Vec<Place> {
        let ours = |place: &&Place| place.of == target.authority && place.https == target.https;
        self.targets.load().iter().map(|target| target.place()).filter(ours).cloned().collect()
    }

    /// Has other targets from now on. Those that are the same go on as they fare, and where they
    /// are `ours` with their connections. `others` were at work before those that are new.
    fn put(&self, places: Vec<(Place, u32)>, others: bool, ours: bool) -> Vec<Arc<Target>> {
        let old = self.targets.load_full();
        let mut new: Vec<Arc<Target>> = Vec::with_capacity(places.len());
        for (place, weight) in places {
            let same =
                |other: &&Arc<Target>| other.place().https == place.https && other.place().authority == place.authority;
            // Two names may lead to one place.
            if new.iter().any(|other| same(&other)) {
                continue;
            }
            let of_name = |other: &&Arc<Target>| other.place().is_unresolved() && other.place().of == place.of;
            let from = match (old.iter().find(same), old.iter().find(of_name)) {
                (Some(before), _) => From::Before(before),
                (None, Some(before)) => From::Name(before),
                (None, None) if others => From::Addition,
                (None, None) => From::Start,
            };
            let fresh = !matches!(from, From::Before(_));
            // With its connections, where nothing about it has changed.
            let target = match from {
                From::Before(_) if ours => old.iter().find(|other| same(other) && other.weight() == weight).cloned(),
                _ => None,
            };
            let target = target.unwrap_or_else(|| Arc::new(Target::new(place.clone(), weight, from)));
            if fresh {
                self.metrics.upstream_healthy.with_label_values(&[&self.name, target.name()]).set(1);
            }
            new.push(target);
        }
        let gone = old.iter().filter(|old| !new.iter().any(|new| new.name() == old.name())).cloned().collect();
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
        for gone in self.put(places, true, true) {
            self.retire(gone);
        }
    }

    /// What is no longer in `next` gets no requests; those under way have the deregistration delay.
    pub fn retire_but(&self, next: Option<&Self>) {
        let kept = next.map(|next| next.targets.load_full()).unwrap_or_default();
        for target in self.targets.load().iter() {
            target.pool.clear();
            if !kept.iter().any(|kept| kept.name() == target.name()) {
                self.retire(Arc::clone(target));
            }
        }
    }

    fn retire(&self, target: Arc<Target>) {
        if target.place().is_unresolved() && self.configured.iter().any(|of| of.authority == target.place().of) {
            // It is there, by its addresses: what is under way ends as it began.
            let _ = self.metrics.upstream_healthy.remove_label_values(&[&self.name, target.name()]);
            return;
        }
        target.pool.clear();
        let (upstream, metrics, delay) = (self.name.clone(), self.metrics.clone(), self.deregistration_delay);
        tracing::info!(upstream, address = target.name(), under_way = target.load(), "a target is no longer there");
        let _ = metrics.upstream_healthy.remove_label_values(&[&upstream, target.name()]);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let left = target.load();
            if left > 0 {
                tracing::warn!(upstream, address = target.name(), left, "requests to a target that is gone are cut");
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
        let tidying = async {
            loop {
                tokio::time::sleep(TIDY).await;
                self.targets.load().iter().for_each(|target| target.pool.tidy());
            }
        };
        tokio::join!(health::watch(&self), resolve::watch(&self), tidying);
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
        // What HTTP/2 takes of a body may come back untouched.
        let kept = if self.connector.protocol == Protocol::Http2 { KEPT } else { 0 };
        let lender = sent::Lender::new(body, kept);
        let mut tried = Vec::new();
        let mut refused = 0;
        let mut bound = self.sticky.as_ref().and_then(|cookies| self.bound(cookies, &head.headers));
        loop {
            // Where it was before, unless that doesn't answer.
            let Some(target) = bound.take().or_else(|| self.pick(&tried)) else {
                return Err(Failure::Unreachable("no target was left to try".into()));
            };
            let in_flight = InFlight::new(Arc::clone(&target), self.in_flight.clone());
            let activity = Activity::new();
            let failure = match self.exchange(&head, &target, &lender, &activity, in_flight).await {
                Ok(response) => {
                    target.answered();
                    lender.done();
                    let status = response.status();
                    self.metrics.upstream_requests.with_label_values(&[self.name.as_str(), status.as_str()]).inc();
                    let cookie = self.sticky.as_ref().and_then(|cookies| cookies.set(target.name()));
                    let early = !status.is_success() && !lender.is_over();
                    return Ok(Answer { response, target, cookie, early });
                }
                Err(failure) => failure,
            };
            let label = match &failure {
                Failure::Unreachable(_) => "unreachable",
                Failure::Ours(_) => "ours",
                Failure::Refused { .. } => "refused",
                Failure::Broken(_) => "broken",
                Failure::Client(_) => "client",
                Failure::Idle(_) => "timeout",
            };
            self.metrics.upstream_requests.with_label_values(&[&self.name, label]).inc();
            if let Failure::Client(_) | Failure::Ours(_) = failure {
                return Err(failure);
            }
            if let Failure::Refused { goodbye, .. } = failure {
                // It is well, and says so: the same one may take it over another connection.
                refused += 1;
                if refused < TRIES && lender.is_whole() && (goodbye || self.may_retry()) {
                    bound = Some(target).filter(|_| self.sticky.is_some());
                    continue;
                }
                return Err(failure);
            }
            if target.failed() {
                tracing::warn!(upstream = self.name, address = target.name(), "a target is left out for a while");
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

    /// Lets go of every connection that waits for a request.
    fn let_go(&self) {
        self.targets.load().iter().for_each(|target| target.pool.spare());
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
        let targets = self.targets.load();
        if let [only] = targets.as_slice() {
            // It may be tried again: its connection may have been an old one.
            return Some(Arc::clone(only));
        }
        let now = Instant::now();
        let untried = |target: &&Arc<Target>| !tried.iter().any(|tried| tried.name() == target.name());
        let open = || targets.iter().filter(|target| target.weight() > 0);
        let mut fit: Vec<&Arc<Target>> = open().filter(|target| target.is_fit(now)).filter(untried).collect();
        if fit.is_empty() {
            fit = open().filter(untried).collect();
        }
        let fit: Vec<_> = fit.into_iter().map(|target| (target, target.share(now, self.slow_start))).collect();
        self.turn.pick(self.choice, &fit).cloned()
    }

    fn may_retry(&self) -> bool {
        let spend = |saved: i64| (saved >= RETRY_COST).then(|| (saved - RETRY_COST).min(MOST_SAVED));
        let may = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok();
        let label = if may { "made" } else { "kept_back" };
        self.metrics.upstream_retries.with_label_values(&[&self.name, label]).inc();
        may
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(words) | Self::Ours(words) | Self::Refused { words, .. } | Self::Broken(words) => {
                f.write_str(words)
            }
            Self::Client(error) => error.fmt(f),
            Self::Idle(idle) => write!(f, "nothing went or came for {} s", idle.as_secs()),
        }
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
