//! Counts what each client asks for, and says when it is too much.
//!
//! A client is its address (of IPv6 the network of 64 bits, which one client commonly has),
//! its certificate, or the caller it proves to be. As many as 65,536 are told apart; while
//! there are more, those that come share what one may have with others, so that memory is
//! bounded and nobody gets by unseen.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota as Rate, RateLimiter, clock::Clock as _};

use crate::{
    config::{self, QuotaBy},
    fault::Fault,
    http::Connection,
    metrics::Metrics,
};

mod bytes;
mod under_way;

use bytes::Bytes;
use under_way::UnderWay;

/// Clients told apart at once, by one quota.
const MOST: usize = 65_536;
/// Shared places while there are more.
const SHARED: u64 = 4096;
/// How often, in requests, those who have been quiet are forgotten.
const TIDY_EVERY: u64 = 1024;

/// One `[[quota]]` at work.
pub struct Quota {
    name: String,
    by: QuotaBy,
    rate: Option<DefaultKeyedRateLimiter<Client>>,
    under_way: Option<UnderWay>,
    bytes: Option<Bytes>,
    asked: AtomicU64,
    crowded: AtomicBool,
    hasher: RandomState,
    metrics: Metrics,
}

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    Address(IpAddr),
    Certificate(String),
    Caller(String),
    Shared(u64),
}

/// A request that was let in: counts as under way until it is dropped.
pub struct Admitted {
    quota: Arc<Quota>,
    client: Client,
}

impl Quota {
    /// The quota that `config` describes.
    pub fn new(config: &config::Quota, metrics: Metrics) -> Arc<Self> {
        let rate = config.requests.map(|requests| {
            let rate = Rate::per_second(requests).allow_burst(config.burst.unwrap_or(requests));
            RateLimiter::keyed(rate)
        });
        Arc::new(Self {
            name: config.name.clone(),
            by: config.by,
            rate,
            under_way: config.concurrent.map(|most| UnderWay::new(NonZeroU32::get(most))),
            bytes: config.bytes.map(|rate| Bytes::new(rate, config.burst_bytes.unwrap_or(rate.saturating_mul(10)))),
            asked: AtomicU64::new(0),
            crowded: AtomicBool::new(false),
            hasher: RandomState::new(),
            metrics,
        })
    }

    /// Whether it counts by callers, who are known later than the rest.
    pub fn is_by_caller(&self) -> bool {
        self.by == QuotaBy::Caller
    }

    /// Lets a request in, or says when to come again. `caller` is who proved to be one.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub fn admit(self: &Arc<Self>, connection: Option<&Connection>, caller: Option<&str>) -> Result<Admitted, Fault> {
        self.tidy();
        let client = self.client(connection, caller);
        let refused = |kind: &str, words: &'static str, after: Duration| {
            self.metrics.quota_refusals.with_label_values(&[&self.name, kind]).inc();
            Err(Fault::too_many(words, after).because(format!("quota `{}`: {kind}", self.name)))
        };
        if let Some(bytes) = &self.bytes
            && let Some(after) = bytes.wait(&client)
        {
            return refused("bytes", "you have sent and fetched more than your share; come again later", after);
        }
        if let Some(rate) = &self.rate
            && let Err(not_until) = rate.check_key(&client)
        {
            let after = not_until.wait_time_from(governor::clock::DefaultClock::default().now());
            return refused("requests", "you ask more often than you may; come again later", after);
        }
        if let Some(under_way) = &self.under_way
            && !under_way.begin(&client)
        {
            return refused("concurrent", "you have too many requests under way", Duration::from_secs(1));
        }
        Ok(Admitted { quota: Arc::clone(self), client })
    }

    fn client(&self, connection: Option<&Connection>, caller: Option<&str>) -> Client {
        let certificate = || connection?.tls.as_ref()?.client.as_ref().map(|client| client.fingerprint.clone());
        let client = match self.by {
            QuotaBy::Address => None,
            QuotaBy::Certificate => certificate().map(Client::Certificate),
            QuotaBy::Caller => caller.map(|caller| Client::Caller(caller.to_owned())),
        };
        // Who shows nothing is where it comes from.
        let client = client.unwrap_or_else(|| {
            Client::Address(connection.map_or(IpAddr::from([0, 0, 0, 0]), |connection| network(connection.peer.ip())))
        });
        if self.crowded.load(Ordering::Relaxed) {
            return Client::Shared(self.hasher.hash_one(&client) % SHARED);
        }
        client
    }

    /// Forgets who has been quiet, now and then.
    fn tidy(&self) {
        if !self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(TIDY_EVERY) {
            return;
        }
        let mut clients = 0;
        if let Some(rate) = &self.rate {
            rate.retain_recent();
            clients = rate.len();
        }
        if let Some(bytes) = &self.bytes {
            clients = clients.max(bytes.tidy());
        }
        let crowded = clients > MOST;
        if crowded && !self.crowded.swap(crowded, Ordering::Relaxed) {
            tracing::warn!(quota = self.name, clients, "more clients than are told apart; new ones share places");
        }
        self.crowded.store(crowded, Ordering::Relaxed);
        self.metrics.quota_clients.with_label_values(&[&self.name]).set(i64::try_from(clients).unwrap_or(i64::MAX));
    }
}

impl Admitted {
    /// Counts bytes that came or went.
    pub fn passed(&self, bytes: usize) {
        if let Some(counter) = &self.quota.bytes {
            counter.spend(&self.client, bytes as u64);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(under_way) = &self.quota.under_way {
            under_way.end(&self.client);
        }
    }
}

/// Where a client is: its address, or of IPv6 the network that is commonly one client's.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quota").field("name", &self.name).field("by", &self.by).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(change: impl FnOnce(&mut config::Quota)) -> Arc<Quota> {
        let mut config = config::Quota {
            name: "test".into(),
            by: QuotaBy::Address,
            requests: None,
            burst: None,
            concurrent: None,
            bytes: None,
            burst_bytes: None,
        };
        change(&mut config);
        Quota::new(&config, Metrics::new().expect("metrics"))
    }

    fn from(address: &str) -> Connection {
        let peer = std::net::SocketAddr::new(address.parse().expect("an address"), 1);
        Connection::new(peer, peer, None)
    }

    #[test]
    fn each_has_its_own_share_and_hears_when_to_come_again() {
        let quota = quota(|config| (config.requests, config.burst) = (NonZeroU32::new(1), NonZeroU32::new(3)));
        let (one, other) = (from("192.0.2.1"), from("192.0.2.2"));
        for _ in 0..3 {
            assert!(quota.admit(Some(&one), None).is_ok());
        }
        let refused = quota.admit(Some(&one), None).err().expect("too many");
        assert_eq!(refused.status(), 429);
        let after = refused.retry_after().expect("when");
        assert!(after > Duration::ZERO && after <= Duration::from_secs(1), "{after:?}");
        assert!(quota.admit(Some(&other), None).is_ok());
    }

    #[test]
    fn one_network_of_ipv6_is_one_client_and_callers_are_themselves() {
        let addresses = quota(|config| config.requests = NonZeroU32::new(1));
        assert!(addresses.admit(Some(&from("2001:db8::1")), None).is_ok());
        assert!(addresses.admit(Some(&from("2001:db8::ffff:2")), None).is_err());
        assert!(addresses.admit(Some(&from("2001:db8:0:1::1")), None).is_ok());
        let callers = quota(|config| (config.by, config.requests) = (QuotaBy::Caller, NonZeroU32::new(1)));
        let here = from("192.0.2.1");
        assert!(callers.admit(Some(&here), Some("a")).is_ok());
        assert!(callers.admit(Some(&here), Some("b")).is_ok());
        assert!(callers.admit(Some(&here), Some("a")).is_err());
        assert!(callers.admit(Some(&here), None).is_ok(), "who is nobody is where it comes from");
    }

    #[test]
    fn what_has_ended_is_not_under_way() {
        let quota = quota(|config| config.concurrent = NonZeroU32::new(2));
        let here = from("192.0.2.1");
        let admitted: Vec<_> = (0..2).map(|_| quota.admit(Some(&here), None).expect("let in")).collect();
        assert!(quota.admit(Some(&here), None).is_err());
        drop(admitted);
        assert!(quota.admit(Some(&here), None).is_ok());
    }

    #[test]
    fn who_fetched_much_waits() {
        let quota = quota(|config| (config.bytes, config.burst_bytes) = (Some(1000), Some(2000)));
        let here = from("192.0.2.1");
        let admitted = quota.admit(Some(&here), None).expect("let in");
        admitted.passed(1500);
        assert!(quota.admit(Some(&here), None).is_ok(), "something is left");
        admitted.passed(10_000);
        let after = quota.admit(Some(&here), None).err().and_then(|fault| fault.retry_after()).expect("when");
        assert!(after > Duration::from_secs(9) && after <= Duration::from_secs(10), "{after:?}");
        assert!(quota.admit(Some(&from("192.0.2.2")), None).is_ok());
    }

    #[test]
    fn a_crowd_is_bounded() {
        // What each has fetched is forgotten after an hour, however slow the machine is.
        let quota = quota(|config| {
            config.requests = NonZeroU32::new(1);
            (config.bytes, config.burst_bytes) = (Some(1), Some(10_000));
        });
        for at in 0..70_000_u32 {
            if let Ok(admitted) = quota.admit(Some(&from(&std::net::Ipv4Addr::from(at).to_string())), None) {
                admitted.passed(3600);
            }
        }
        let told_apart = quota.bytes.as_ref().expect("bytes").tidy();
        assert!((MOST..MOST + 6200).contains(&told_apart), "{told_apart}");
        assert!(quota.rate.as_ref().expect("a rate").len() < MOST + 6200);
        assert!(quota.crowded.load(Ordering::Relaxed));
    }
}
