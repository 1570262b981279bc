//! Which certificate a handshake gets: each in a slot of its own, chosen by the name
//! that the client asks for.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwapOption;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use tokio::sync::watch;

use super::{
    acme::{self, Answers},
    prove::Proved,
    staple::Staple,
};

/// A certificate that is served, and may be another one at the next handshake; or none
/// yet. Clones of its `Arc` share it.
pub struct CertificateSlot {
    name: String,
    current: ArcSwapOption<Served>,
    /// What is served is made of; changed under the lock alone.
    parts: Mutex<Parts>,
    served: watch::Sender<bool>,
}

#[derive(Default)]
struct Parts {
    proved: Option<Proved>,
    staple: Option<Staple>,
}

/// What one slot serves at a time.
struct Served {
    key: Arc<CertifiedKey>,
    /// The names it is for, in lower case.
    names: Vec<String>,
}

/// The certificates of one listener, the default first.
#[derive(Debug)]
pub struct Certificates {
    slots: Vec<Arc<CertificateSlot>>,
    answers: Option<Arc<Answers>>,
}

impl CertificateSlot {
    /// A slot called `name` (a metric label: a configured name, never a client's word)
    /// that serves `first`, or nobody yet.
    pub fn new(name: impl Into<String>, first: Option<&Proved>) -> Self {
        let slot = Self {
            name: name.into(),
            current: ArcSwapOption::empty(),
            parts: Mutex::default(),
            served: watch::Sender::new(false),
        };
        if let Some(first) = first {
            slot.publish(first);
        }
        slot
    }

    /// The slot's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Serves `next` from the next handshake on, under its own names.
    pub fn publish(&self, next: &Proved) {
        self.change(|parts| parts.proved = Some(next.clone()));
        self.served.send_replace(true);
    }

    /// Resolves once there is something to serve.
    pub async fn served(&self) {
        // The sender is ours.
        let _ = self.served.subscribe().wait_for(|served| *served).await;
    }

    /// Sends `staple` along with the certificate that it is of, and with no other.
    pub fn staple(&self, staple: Option<Staple>) {
        self.change(|parts| parts.staple = staple);
    }

    /// Whether a staple goes along with what is served now.
    pub fn is_stapled(&self) -> bool {
        self.current().is_some_and(|key| key.ocsp.is_some())
    }

    /// What is served now.
    pub fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|served| Arc::clone(&served.key))
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let Parts { proved, staple } = &*parts;
        self.current.store(proved.as_ref().map(|proved| Arc::new(Served::of(proved, staple.as_ref()))));
    }
}

impl Served {
    fn of(proved: &Proved, staple: Option<&Staple>) -> Self {
        let names = proved.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let key = match staple.filter(|staple| staple.is_of(proved)) {
            None => Arc::clone(&proved.key),
            Some(staple) => {
                let mut key = CertifiedKey::clone(&proved.key);
                key.ocsp = Some(staple.bytes().to_vec());
                Arc::new(key)
            }
        };
        Self { key, names }
    }

    /// How well it fits the lower-case `host`: by the very name, by a wildcard, or not.
    fn fits(&self, host: &str) -> Option<Fit> {
        // A wildcard stands for one label, the first (RFC 6125, section 6.4.3).
        let parent = host.split_once('.').map(|(_, parent)| parent);
        let fit = |name: &String| match name.strip_prefix("*.") {
            Some(domain) => parent.filter(|parent| *parent == domain).map(|_| Fit::Wildcard),
            None => (name == host).then_some(Fit::Exact),
        };
        self.names.iter().filter_map(fit).max()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Wildcard,
    Exact,
}

impl Certificates {
    /// Those of `slots`, of which the first is served to whoever asks for no name, or
    /// for one that none of them has. None at all resolves nothing. Of `answers` those are
    /// served that an authority asks for by `acme-tls/1`.
    pub fn new(slots: Vec<Arc<CertificateSlot>>, answers: Option<Arc<Answers>>) -> Self {
        Self { slots, answers }
    }

    /// Whether authorities are answered.
    pub(super) fn answers(&self) -> bool {
        self.answers.is_some()
    }

    /// The best of those that `usable` says the client can verify; of an ECDSA and an RSA
    /// certificate for one name it may know one alone.
    fn choose(&self, host: Option<&str>, usable: impl Fn(&CertifiedKey) -> bool) -> Option<Arc<CertifiedKey>> {
        let host = host.map(str::to_ascii_lowercase);
        let mut best: Option<(Fit, Arc<CertifiedKey>)> = None;
        for slot in host.iter().flat_map(|_| &self.slots) {
            let served = slot.current.load();
            let Some(served) = served.as_ref() else { continue };
            let fit = host.as_deref().and_then(|host| served.fits(host)).filter(|_| usable(&served.key));
            // Of two that fit alike, the first that is written.
            if let Some(fit) = fit
                && best.as_ref().is_none_or(|(found, _)| fit > *found)
            {
                best = Some((fit, Arc::clone(&served.key)));
            }
        }
        let default = || {
            let all = || self.slots.iter().filter_map(|slot| slot.current());
            self.slots.first()?.current().filter(|key| usable(key)).or_else(|| all().find(|key| usable(key)))
        };
        best.map(|(_, key)| key).or_else(default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An authority that validates a name offers this protocol and no other (RFC 8737,
        // section 3).
        let validates =
            hello.alpn().is_some_and(|mut offered| offered.next() == Some(acme::PROTOCOL) && offered.next().is_none());
        if validates {
            return self.answers.as_ref()?.certificate(hello.server_name()?);
        }
        let schemes = hello.signature_schemes();
        let name = hello.server_name();
        // One that it can't verify is what it is told so by: a handshake failure.
        self.choose(name, |key| key.key.choose_scheme(schemes).is_some()).or_else(|| self.choose(name, |_| true))
    }
}

impl fmt::Debug for CertificateSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateSlot").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::prove, *};

    fn slot(names: &[&str]) -> Arc<CertificateSlot> {
        let made = prove::tests::pair(names);
        let proved = prove::prove("cert", made.0.as_bytes(), "key", made.1.as_bytes()).expect("a good pair");
        Arc::new(CertificateSlot::new(names[0], Some(&proved)))
    }

    #[test]
    fn the_exact_name_then_a_wildcard_then_the_default() {
        let slots = [
            slot(&["default.example"]),
            slot(&["*.example.com"]),
            slot(&["Exact.example.com", "*.deep.example.com"]),
            slot(&["exact.example.com"]),
        ];
        let chosen = |host: Option<&str>| {
            let key = Certificates::new(slots.to_vec(), None).choose(host, |_| true).expect("one of them");
            slots.iter().position(|slot| Arc::ptr_eq(&slot.current().expect("served"), &key)).expect("one of them")
        };
        for (host, expected) in [
            (None, 0),
            (Some("default.example"), 0),
            (Some("elsewhere.example"), 0),
            (Some("other.example.com"), 1),
            (Some("OTHER.example.com"), 1),
            // An exact name beats a wildcard; of two, the first that is written.
            (Some("exact.EXAMPLE.com"), 2),
            (Some("a.deep.example.com"), 2),
            // A wildcard is one label, and never none.
            (Some("a.b.example.com"), 0),
            (Some("example.com"), 0),
            (Some("*.example.com"), 1),
            (Some("com"), 0),
            (Some(""), 0),
        ] {
            assert_eq!(chosen(host), expected, "{host:?}");
        }
        assert!(Certificates::new(vec![], None).choose(Some("a.example"), |_| true).is_none());
    }

    #[test]
    fn a_client_gets_what_it_can_verify() {
        let slots = [slot(&["a.example"]), slot(&["a.example"]), slot(&["*.example"])];
        let all = Certificates::new(slots.to_vec(), None);
        let without_first = |key: &CertifiedKey| !std::ptr::eq(key, Arc::as_ptr(&slots[0].current().expect("served")));
        let chosen = |host| {
            let key = all.choose(host, without_first).expect("one of them");
            slots.iter().position(|slot| Arc::ptr_eq(&slot.current().expect("served"), &key)).expect("one of them")
        };
        assert_eq!((chosen(Some("a.example")), chosen(Some("other.test")), chosen(None)), (1, 1, 1));
        assert!(all.choose(Some("a.example"), |_| false).is_none());
    }

    #[test]
    fn a_published_certificate_brings_its_own_names() {
        let (first, second) = (slot(&["first.example"]), slot(&["second.example"]));
        let all = Certificates::new(vec![Arc::clone(&first), Arc::clone(&second)], None);
        let made = prove::tests::pair(&["third.example"]);
        let proved = prove::prove("cert", made.0.as_bytes(), "key", made.1.as_bytes()).expect("a good pair");
        second.publish(&proved);
        let served = |host| all.choose(Some(host), |_| true).expect("one of them");
        assert!(Arc::ptr_eq(&served("third.example"), &proved.key));
        assert!(Arc::ptr_eq(&served("second.example"), &first.current().expect("served")));
    }
}
