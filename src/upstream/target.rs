//! One target: where it is, how it fares, how much it has to do.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::uri::{Authority, Scheme};
use tokio::time::Instant;

use crate::{config, metrics::Metrics};

/// Failures in a row after which a target is left out.
const IN_A_ROW: u32 = 3;
/// For how long, the first time; twice as long each time after, to the longest.
const LEFT_OUT: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// One target of an upstream.
#[derive(Debug)]
pub(super) struct Target {
    scheme: Scheme,
    authority: Authority,
    name: String,
    weight: u32,
    in_flight: AtomicUsize,
    /// What active checks last found.
    healthy: AtomicBool,
    fate: Mutex<Fate>,
}

#[derive(Debug, Default)]
struct Fate {
    in_a_row: u32,
    times: u32,
    until: Option<Instant>,
}

impl Target {
    pub(super) fn new(config: &config::Target) -> Self {
        let scheme = if config.https { Scheme::HTTPS } else { Scheme::HTTP };
        let name = format!("{scheme}://{}", config.authority);
        // The configuration has parsed it.
        let authority = config.authority.parse().unwrap_or_else(|_| Authority::from_static("localhost"));
        let (in_flight, healthy) = (AtomicUsize::new(0), AtomicBool::new(true));
        Self { scheme, authority, name, weight: config.weight, in_flight, healthy, fate: Mutex::default() }
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme.clone()
    }

    pub(super) fn authority(&self) -> Authority {
        self.authority.clone()
    }

    /// A metric's label: a configured address.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    /// Requests under way.
    pub(super) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it is believed to answer.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        let left_out =
            || self.fate.lock().unwrap_or_else(PoisonError::into_inner).until.is_some_and(|until| until > now);
        self.healthy.load(Ordering::Relaxed) && !left_out()
    }

    /// What an active check came to; whether that is news.
    pub(super) fn found(&self, healthy: bool) -> bool {
        if healthy {
            self.answered();
        }
        self.healthy.swap(healthy, Ordering::Relaxed) != healthy
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&self) {
        let mut fate = self.fate.lock().unwrap_or_else(PoisonError::into_inner);
        if fate.in_a_row > 0 || fate.until.is_some() {
            *fate = Fate::default();
        }
    }

    /// It didn't; whether it is left out for that from now on.
    pub(super) fn failed(&self) -> bool {
        let mut fate = self.fate.lock().unwrap_or_else(PoisonError::into_inner);
        fate.in_a_row += 1;
        if fate.in_a_row < IN_A_ROW {
            return false;
        }
        fate.in_a_row = 0;
        fate.times += 1;
        let now = Instant::now();
        let news = fate.until.is_none_or(|until| until <= now);
        let longer = 2_u32.saturating_pow(fate.times - 1);
        fate.until = Some(now + LEFT_OUT.saturating_mul(longer).min(LONGEST));
        news
    }
}

/// One request of a target, under way until it is dropped.
#[derive(Debug)]
pub struct InFlight {
    target: Arc<Target>,
    metrics: Metrics,
    upstream: String,
}

impl InFlight {
    pub(super) fn new(target: Arc<Target>, metrics: Metrics, upstream: &str) -> Self {
        target.in_flight.fetch_add(1, Ordering::Relaxed);
        metrics.upstream_in_flight.with_label_values(&[upstream]).inc();
        Self { target, metrics, upstream: upstream.to_owned() }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.target.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.metrics.upstream_in_flight.with_label_values(&[&self.upstream]).dec();
    }
}
