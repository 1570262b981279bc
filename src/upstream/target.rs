//! One target: where it is, how it fares, how much it has to do.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus::IntGauge;
use rustls_pki_types::ServerName;
use tokio::{sync::watch, time::Instant};

use super::pool::Pool;

/// Failures in a row after which a target is left out.
const IN_A_ROW: u32 = 3;
/// For how long, the first time; twice as long each time after, to the longest.
const LEFT_OUT: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);
/// A weight of one, so that a part of it is a number too.
const UNIT: u64 = 1000;

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) https: bool,
    /// Host and port that connections go to.
    pub(super) authority: String,
    /// Host and port as configured: what certificates and checks are for.
    pub(super) of: String,
}

/// How a target came to be where it is.
#[derive(Clone, Copy)]
pub(super) enum From<'a> {
    /// With the upstream itself.
    Start,
    /// Among others that are at work.
    Addition,
    /// It is an address of a name that was there, and hadn't been looked up.
    Name(&'a Target),
    /// It was there, perhaps with another weight.
    Before(&'a Target),
}

/// One target of an upstream.
pub(super) struct Target {
    place: Place,
    name: String,
    weight: u32,
    state: Arc<State>,
    /// The connections to it.
    pub(super) pool: Pool,
}

/// How a target fares; outlives a change of its weight.
#[derive(Debug)]
struct State {
    in_flight: AtomicUsize,
    /// What active checks last found.
    healthy: AtomicBool,
    fate: Mutex<Fate>,
    /// Whether its requests are to end now: to be looked at, and to be waited for.
    over: AtomicBool,
    cut: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Fate {
    in_a_row: u32,
    times: u32,
    until: Option<Instant>,
    /// Since when it is to get more and more.
    warm_from: Option<Instant>,
}

impl Place {
    /// Whether it is a name that hasn't been looked up.
    pub(super) fn is_unresolved(&self) -> bool {
        self.authority == self.of && self.authority.parse::<std::net::SocketAddr>().is_err()
    }
}

impl Target {
    /// A target at `place`, as it came there.
    pub(super) fn new(place: Place, weight: u32, from: From<'_>) -> Self {
        let scheme = if place.https { "https" } else { "http" };
        let name = format!("{scheme}://{}", place.authority);
        let state = match from {
            From::Start => Arc::new(State::new(None)),
            From::Addition => Arc::new(State::new(Some(Instant::now()))),
            From::Name(before) => Arc::new(State::new(before.fate().warm_from)),
            From::Before(before) => Arc::clone(&before.state),
        };
        Self { place, name, weight, state, pool: Pool::default() }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The name that its certificate is for.
    pub(super) fn server_name(&self) -> Result<ServerName<'static>, String> {
        let host = self.place.of.rsplit_once(':').map_or(self.place.of.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        name.map_err(|_| format!("{host} is no name that a certificate could be for"))
    }

    /// A metric's label: a configured address, or one of a configured name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    /// Its share of requests at this moment; never 0 for one that has a weight.
    pub(super) fn share(&self, now: Instant, slow_start: Duration) -> u64 {
        let whole = u64::from(self.weight) * UNIT;
        if slow_start.is_zero() || whole == 0 {
            return whole;
        }
        let Some(from) = self.fate().warm_from else { return whole };
        let since = now.saturating_duration_since(from);
        if since >= slow_start {
            return whole;
        }
        let part = u128::from(whole) * since.as_millis() / slow_start.as_millis().max(1);
        u64::try_from(part).unwrap_or(whole).max(1)
    }

    /// Requests under way.
    pub(super) fn load(&self) -> usize {
        self.state.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it is believed to answer.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        self.state.healthy.load(Ordering::Relaxed) && self.fate().until.is_none_or(|until| until <= now)
    }

    /// What an active check came to; whether that is news.
    pub(super) fn found(&self, healthy: bool) -> bool {
        if healthy {
            self.answered();
        }
        let news = self.state.healthy.swap(healthy, Ordering::Relaxed) != healthy;
        if news && healthy {
            self.fate().warm_from = Some(Instant::now());
        }
        news
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&self) {
        let mut fate = self.fate();
        if fate.in_a_row > 0 || fate.until.is_some() {
            let warm_from = fate.warm_from;
            *fate = Fate { warm_from, ..Fate::default() };
        }
    }

    /// It didn't; whether it is left out for that from now on.
    pub(super) fn failed(&self) -> bool {
        let mut fate = self.fate();
        fate.in_a_row += 1;
        if fate.in_a_row < IN_A_ROW {
            return false;
        }
        fate.in_a_row = 0;
        fate.times += 1;
        let now = Instant::now();
        let news = fate.until.is_none_or(|until| until <= now);
        let longer = 2_u32.saturating_pow(fate.times - 1);
        let until = now + LEFT_OUT.saturating_mul(longer).min(LONGEST);
        (fate.until, fate.warm_from) = (Some(until), Some(until));
        news
    }

    /// Ends its requests, which have had their time.
    pub(super) fn cut(&self) {
        self.state.over.store(true, Ordering::Relaxed);
        self.state.cut.send_replace(true);
    }

    /// Whether its requests have had their time.
    pub(super) fn is_over(&self) -> bool {
        self.state.over.load(Ordering::Relaxed)
    }

    /// Resolves when the target has been taken away, and the time for what it had to do is over.
    pub(super) fn cut_asked(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut cut = self.state.cut.subscribe();
        async move {
            if cut.wait_for(|cut| *cut).await.is_err() {
                // Nobody is left who could say so.
                std::future::pending::<()>().await;
            }
        }
    }

    fn fate(&self) -> std::sync::MutexGuard<'_, Fate> {
        self.state.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(warm_from: Option<Instant>) -> Self {
        let fate = Fate { warm_from, ..Fate::default() };
        Self {
            in_flight: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            fate: Mutex::new(fate),
            over: AtomicBool::new(false),
            cut: watch::Sender::new(false),
        }
    }
}

/// One request of a target, under way until it is dropped.
pub struct InFlight {
    target: Arc<Target>,
    gauge: IntGauge,
}

impl InFlight {
    pub(super) fn new(target: Arc<Target>, gauge: IntGauge) -> Self {
        target.state.in_flight.fetch_add(1, Ordering::Relaxed);
        gauge.inc();
        Self { target, gauge }
    }

    /// Resolves when the target has been taken away, and the time for what it had to do is over.
    pub fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        self.target.cut_asked()
    }

    /// What logs call the target: its address.
    pub fn target(&self) -> &str {
        &self.target.place.authority
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.target.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { https: false, authority: "127.0.0.1:1".into(), of: "app:1".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_one_gets_more_and_more() {
        let (old, new) = (Target::new(place(), 2, From::Start), Target::new(place(), 2, From::Addition));
        let share = |target: &Target| target.share(Instant::now(), Duration::from_secs(10));
        assert_eq!((share(&old), share(&new)), (2000, 1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((share(&old), share(&new)), (2000, 1000));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(share(&new), 2000);
        assert_eq!(new.share(Instant::now(), Duration::ZERO), 2000);
        // One that was unwell begins anew.
        old.found(false);
        old.found(true);
        assert_eq!(share(&old), 1);
        // And so does one that was left out, once it is back.
        for _ in 0..IN_A_ROW {
            new.failed();
        }
        tokio::time::advance(LEFT_OUT + Duration::from_secs(1)).await;
        assert!(new.is_fit(Instant::now()));
        assert_eq!(share(&new), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn another_weight_is_the_same_target() {
        let first = Target::new(place(), 1, From::Start);
        let second = Target::new(place(), 3, From::Before(&first));
        first.found(false);
        assert!(!second.is_fit(Instant::now()));
        second.found(true);
        assert_eq!((second.share(Instant::now(), Duration::ZERO), first.is_fit(Instant::now())), (3000, true));
    }
}
