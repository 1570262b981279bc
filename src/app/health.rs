//! What background work finds of each class, and what `/readyz` says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use super::Classes;
use crate::{
    catalog::Catalog, config::Place, keys::KeyFailure, objects::Objects, secret::jittered, server::admin::Readiness,
    tls::CertificateSlot,
};

/// How often a store is asked whether it is there; `/readyz` tells what was last found.
const PROBE: Duration = Duration::from_secs(15);
/// What answers later than this doesn't answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often a key that can't be used is asked for.
const RECHECK: Duration = Duration::from_secs(20);
/// How often unfinished uploads are looked for.
const ORPHANS: Duration = Duration::from_secs(3600);

/// What impairs which class now.
pub(super) struct Health {
    classes: usize,
    certificates: usize,
    state: Mutex<State>,
    readiness: watch::Sender<Readiness>,
}

#[derive(Default)]
struct State {
    reasons: BTreeMap<(String, Part), String>,
    /// Certificates that are still to come, by name.
    lacking: BTreeSet<String>,
    stopping: bool,
}

/// What of a class is impaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Store,
    Key,
    /// The key service: what is cached goes on, and another replica would fare no better.
    Service,
    /// The catalogue, which all replicas share.
    Catalog,
}

impl Health {
    pub(super) fn new(classes: usize, certificates: usize, readiness: watch::Sender<Readiness>) -> Arc<Self> {
        Arc::new(Self { classes, certificates, state: Mutex::default(), readiness })
    }

    /// From here on nothing makes it ready again.
    pub(super) fn stopping(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stopping = true;
        self.readiness.send_replace(Readiness::Stopping);
    }

    /// Takes note of what impairs `part` of `class`, if anything; whether that is news.
    fn note(&self, class: &str, part: Part, reason: Option<String>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (class.to_owned(), part);
        if state.reasons.get(&place) == reason.as_ref() {
            return false;
        }
        match reason {
            Some(reason) => state.reasons.insert(place, reason),
            None => state.reasons.remove(&place),
        };
        self.tell(&state);
        true
    }

    /// Takes note whether the certificate `name` is there.
    fn certificate(&self, name: &str, there: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = if there { state.lacking.remove(name) } else { state.lacking.insert(name.to_owned()) };
        if changed {
            self.tell(&state);
        }
    }

    fn tell(&self, state: &State) {
        if state.stopping {
            return;
        }
        let unusable = state.reasons.keys().filter(|(_, part)| !matches!(part, Part::Service | Part::Catalog));
        let mut impaired: Vec<&str> = unusable.map(|(class, _)| class.as_str()).collect();
        impaired.dedup();
        let lacking = state.lacking.iter().map(|name| format!("listener {name} has no certificate yet"));
        let reasons: Vec<String> = lacking.chain(state.reasons.values().cloned()).collect();
        // While one class still serves, the others' clients lose less here than by an
        // unready replica.
        let serves = impaired.is_empty() || impaired.len() < self.classes;
        // And while one certificate is there, who waits for another loses nothing by the rest.
        let shown = state.lacking.len() < self.certificates.max(1);
        self.readiness.send_replace(if serves && shown {
            Readiness::Ready { degraded: reasons }
        } else {
            Readiness::NotReady { reasons }
        });
    }
}

/// Keeps the replica unready until there is something to serve in `slot`.
pub(super) fn certificate(health: &Arc<Health>, slot: Arc<CertificateSlot>, tasks: &mut JoinSet<()>) {
    health.certificate(slot.name(), false);
    let health = Arc::clone(health);
    tasks.spawn(async move {
        slot.served().await;
        health.certificate(slot.name(), true);
    });
}

/// Has `health` follow how the catalogue fares.
pub(super) fn catalog(health: &Arc<Health>, catalog: Arc<Catalog>, tasks: &mut JoinSet<()>) {
    let health = Arc::clone(health);
    tasks.spawn(async move {
        let note = |reason: Option<&str>| {
            health.note("", Part::Catalog, reason.map(str::to_owned));
        };
        catalog.health(note).await;
    });
}

/// Starts what keeps `health` true, and what sweeps; the standing of keys is asked for
/// every `key_check`.
pub(super) fn watch(
    health: &Arc<Health>,
    classes: Classes,
    catalog: Option<Arc<Catalog>>,
    key_check: Duration,
    tasks: &mut JoinSet<()>,
) {
    for (name, objects) in classes {
        tasks.spawn(stores(Arc::clone(health), name.clone(), Arc::clone(&objects)));
        tasks.spawn(key(Arc::clone(health), name.clone(), Arc::clone(&objects), key_check));
        if let Place::Bucket(bucket) = &objects.class().place
            && bucket.exclusive
        {
            tasks.spawn(orphans(name, bucket.orphan_after, objects, catalog.clone()));
        }
    }
}

async fn stores(health: Arc<Health>, class: String, objects: Arc<Objects>) {
    loop {
        let found = tokio::time::timeout(PATIENCE, objects.probe()).await;
        let reason = match (objects.closed(), found) {
            (Some(why), _) => Some(format!("the store of class {class} is closed for writing: {why}")),
            (None, Ok(Ok(()))) => None,
            (None, Ok(Err(fault))) => {
                tracing::error!(class, %fault, "the store doesn't answer");
                Some(format!("the store of class {class} doesn't answer"))
            }
            (None, Err(_)) => {
                tracing::error!(class, "the store doesn't answer in time");
                Some(format!("the store of class {class} doesn't answer"))
            }
        };
        health.note(&class, Part::Store, reason);
        let away = objects.keys_away().then(|| format!("the key service of class {class} doesn't answer"));
        health.note(&class, Part::Service, away);
        tokio::time::sleep(jittered(PROBE)).await;
    }
}

/// The start has asked once; then every `check`.
async fn key(health: Arc<Health>, class: String, objects: Arc<Objects>, check: Duration) {
    let mut pause = check;
    loop {
        tokio::time::sleep(jittered(pause)).await;
        let reason = match objects.key_standing().await {
            // There is no service to ask: nor later.
            None => return,
            Some(Ok(standing)) => standing.fault.map(|fault| (standing.name, fault)),
            // Says nothing of the key: what was known of it stays.
            Some(Err(failure @ (KeyFailure::Unavailable(_) | KeyFailure::Denied(_) | KeyFailure::Refused(_)))) => {
                tracing::warn!(class, %failure, "the standing of the key can't be learnt");
                continue;
            }
            Some(Err(failure)) => Some(("its key".to_owned(), failure.to_string())),
        };
        let usable = reason.is_none();
        // What was mended should serve again soon.
        pause = if usable { check } else { check.min(RECHECK) };
        let words = reason.as_ref().map(|(_, fault)| fault.clone()).unwrap_or_default();
        let told = reason.map(|(name, fault)| format!("key {name} of class {class} can't be used: {fault}"));
        if health.note(&class, Part::Key, told) {
            if usable {
                tracing::info!(class, "the key can be used again");
            } else {
                tracing::error!(class, fault = words, "the key can't be used");
            }
        }
    }
}

async fn orphans(class: String, older_than: Duration, objects: Arc<Objects>, catalog: Option<Arc<Catalog>>) {
    loop {
        if let Some(catalog) = &catalog
            && !super::catalog::is_ours(catalog, &format!("orphans {class}")).await
        {
            // Whoever has it may be gone.
            tokio::time::sleep(jittered(ORPHANS / 4)).await;
            continue;
        }
        match objects.abort_orphans(older_than).await {
            Ok(0) => tracing::debug!(class, "no upload was left unfinished"),
            Ok(aborted) => tracing::warn!(class, aborted, "uploads left unfinished were aborted"),
            Err(failure) => tracing::error!(class, %failure, "unfinished uploads can't be looked for"),
        }
        tokio::time::sleep(jittered(ORPHANS)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_impaired_is_degraded_and_all_are_not_ready() {
        let (sender, readiness) = watch::channel(Readiness::Ready { degraded: vec![] });
        let health = Health::new(2, 1, sender);
        let now = || readiness.borrow().clone();
        assert!(health.note("a", Part::Store, Some("a is away".into())));
        assert!(!health.note("a", Part::Store, Some("a is away".into())), "said once");
        assert_eq!(now(), Readiness::Ready { degraded: vec!["a is away".into()] });
        health.note("a", Part::Key, Some("a has no key".into()));
        assert!(matches!(now(), Readiness::Ready { degraded } if degraded.len() == 2), "two reasons, one class");
        health.note("b", Part::Key, Some("b has no key".into()));
        assert!(matches!(now(), Readiness::NotReady { reasons } if reasons.len() == 3));
        for (class, part) in [("a", Part::Store), ("a", Part::Key), ("b", Part::Key)] {
            assert!(health.note(class, part, None));
        }
        assert_eq!(now(), Readiness::Ready { degraded: vec![] });
        health.stopping();
        health.note("a", Part::Store, None);
        health.note("b", Part::Store, Some("b is away".into()));
        assert_eq!(now(), Readiness::Stopping);
    }

    #[test]
    fn jitter_stays_near() {
        for _ in 0..1000 {
            let pause = jittered(PROBE);
            assert!(pause >= PROBE * 3 / 4 && pause <= PROBE * 5 / 4, "{pause:?}");
        }
    }
}
