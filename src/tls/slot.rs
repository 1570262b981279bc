//! Which certificate a handshake gets: each in a slot of its own, chosen by the name
//! that the client asks for.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::prove::Proved;

/// A certificate that is served, and may be another one at the next handshake.
/// Clones of its `Arc` share it.
pub struct CertificateSlot {
    name: String,
    current: ArcSwap<Served>,
}

/// What one slot serves at a time.
struct Served {
    key: Arc<CertifiedKey>,
    /// The names it is for, in lower case.
    names: Vec<String>,
}

/// The certificates of one listener, the default first.
#[derive(Debug)]
pub struct Certificates(Vec<Arc<CertificateSlot>>);

impl CertificateSlot {
    /// A slot called `name` (a metric label: a configured name, never a client's word) that serves `first`.
    pub fn new(name: impl Into<String>, first: &Proved) -> Self {
        Self { name: name.into(), current: ArcSwap::from_pointee(Served::of(first)) }
    }

    /// The slot's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Serves `next` from the next handshake on, under its own names.
    pub fn publish(&self, next: &Proved) {
        self.current.store(Arc::new(Served::of(next)));
    }

    /// What is served now.
    pub fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.load().key)
    }
}

impl Served {
    fn of(proved: &Proved) -> Self {
        let names = proved.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { key: Arc::clone(&proved.key), names }
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
    /// for one that none of them has. None at all resolves nothing.
    pub fn new(slots: Vec<Arc<CertificateSlot>>) -> Self {
        Self(slots)
    }

    fn choose(&self, host: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let host = host.map(str::to_ascii_lowercase);
        let mut best: Option<(Fit, Arc<CertifiedKey>)> = None;
        for slot in host.iter().flat_map(|_| &self.0) {
            let served = slot.current.load();
            let fit = host.as_deref().and_then(|host| served.fits(host));
            // Of two that fit alike, the first that is written.
            if let Some(fit) = fit
                && best.as_ref().is_none_or(|(found, _)| fit > *found)
            {
                best = Some((fit, Arc::clone(&served.key)));
            }
        }
        best.map(|(_, key)| key).or_else(|| self.0.first().map(|slot| slot.current()))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
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
        Arc::new(CertificateSlot::new(names[0], &proved))
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
            let key = Certificates::new(slots.to_vec()).choose(host).expect("one of them");
            slots.iter().position(|slot| Arc::ptr_eq(&slot.current(), &key)).expect("one of them")
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
        assert!(Certificates::new(vec![]).choose(Some("a.example")).is_none());
    }

    #[test]
    fn a_published_certificate_brings_its_own_names() {
        let (first, second) = (slot(&["first.example"]), slot(&["second.example"]));
        let all = Certificates::new(vec![Arc::clone(&first), Arc::clone(&second)]);
        let made = prove::tests::pair(&["third.example"]);
        let proved = prove::prove("cert", made.0.as_bytes(), "key", made.1.as_bytes()).expect("a good pair");
        second.publish(&proved);
        let served = |host| all.choose(Some(host)).expect("one of them");
        assert!(Arc::ptr_eq(&served("third.example"), &proved.key));
        assert!(Arc::ptr_eq(&served("second.example"), &first.current()));
    }
}
