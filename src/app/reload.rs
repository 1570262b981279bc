//! A changed configuration, taken up while we serve: routes, upstreams and callers.
//!
//! What is wrong with the new file changes nothing. What of it needs a restart is said, and the
//! rest is taken. Requests under way end as they began.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use super::{Classes, Configuration, StartError, Unreadable, catalog};
use crate::{
    catalog::Catalog,
    config::{self, Config},
    door::{Access, Behind, Door},
    identity::TokenStore,
    metrics::Metrics,
    quota::Quota,
    upstream::{Connections, Upstream},
};

/// What can be replaced, as it is now.
pub(super) struct Reloader {
    /// None where there is nothing to be read again.
    pub(super) path: Option<PathBuf>,
    pub(super) config: Config,
    pub(super) door: Door,
    pub(super) classes: Classes,
    pub(super) upstreams: Upstreams,
    pub(super) quotas: Quotas,
    pub(super) tokens: Option<Arc<dyn TokenStore>>,
    pub(super) catalog: Option<Arc<Catalog>>,
    pub(super) access: Option<Arc<Access>>,
    pub(super) metrics: Metrics,
}

/// Upstreams at work, by name, each with what looks after it.
pub(super) struct Upstreams {
    connections: Connections,
    running: HashMap<String, Running>,
    watches: JoinSet<()>,
}

struct Running {
    /// What it was made of.
    of: config::Upstream,
    /// What its files held then.
    files: Vec<u8>,
    upstream: Arc<Upstream>,
    watch: Option<AbortHandle>,
}

/// Quotas at work, each with what it was made of.
#[derive(Clone, Default)]
pub(super) struct Quotas(Vec<(config::Quota, Arc<Quota>)>);

impl Quotas {
    /// Those of `config`; those that are the same go on counting.
    pub(super) fn next(&self, config: &Config, metrics: &Metrics) -> Self {
        let one = |wanted: &config::Quota| {
            let same = self.0.iter().find(|(of, _)| of == wanted);
            let quota = same.map_or_else(|| Quota::new(wanted, metrics.clone()), |(_, quota)| Arc::clone(quota));
            (wanted.clone(), quota)
        };
        Self(config.quotas.iter().map(one).collect())
    }

    pub(super) fn by_name(&self) -> HashMap<String, Arc<Quota>> {
        self.0.iter().map(|(of, quota)| (of.name.clone(), Arc::clone(quota))).collect()
    }
}

/// A digest of the files that an upstream's TLS is made of.
fn files(upstream: &config::Upstream) -> Vec<u8> {
    let config::UpstreamTls { roots, client, .. } = &upstream.tls;
    let (cert, key) = client.as_ref().map_or((None, None), |(cert, key)| (Some(cert), Some(key)));
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for path in [roots.as_ref(), cert, key].into_iter().flatten() {
        // What can't be read is said where it is used.
        digest.update(&std::fs::read(path).unwrap_or_default());
    }
    digest.finish().as_ref().to_vec()
}

impl Running {
    /// Is looked after no more; requests to targets that `next` has not have their time.
    fn end(self, next: Option<&Upstream>) {
        if let Some(watch) = self.watch {
            watch.abort();
        }
        self.upstream.retire_but(next);
    }
}

impl Upstreams {
    /// None yet; all together have `connections`.
    pub(super) fn new(connections: Connections) -> Self {
        Self { connections, running: HashMap::new(), watches: JoinSet::new() }
    }

    /// Those of `config`; those of `self` that are the same go on as they are.
    ///
    /// # Errors
    /// [`StartError`] names the upstream.
    pub(super) fn next(
        &self,
        config: &Config,
        metrics: &Metrics,
    ) -> Result<HashMap<String, Arc<Upstream>>, StartError> {
        let mut next = HashMap::new();
        for upstream in &config.upstreams {
            let before = self.running.get(&upstream.name);
            let made = match before.filter(|running| running.of == *upstream && running.files == files(upstream)) {
                Some(running) => Arc::clone(&running.upstream),
                None => {
                    let part = format!("upstream `{}`", upstream.name);
                    let before = before.map(|running| &*running.upstream);
                    Upstream::new(upstream, before, self.connections.clone(), metrics.clone())
                        .map_err(StartError::of(&part))?
                }
            };
            next.insert(upstream.name.clone(), made);
        }
        Ok(next)
    }

    /// Takes up what [`Self::next`] made of `config`.
    pub(super) fn take(&mut self, config: &Config, next: HashMap<String, Arc<Upstream>>) {
        let mut running = HashMap::new();
        for upstream in &config.upstreams {
            let Some(made) = next.get(&upstream.name) else { continue };
            let same = |before: &Running| Arc::ptr_eq(&before.upstream, made);
            let taken = match self.running.remove(&upstream.name) {
                Some(before) if same(&before) => before,
                before => {
                    if let Some(before) = before {
                        before.end(Some(made));
                    }
                    Running { of: upstream.clone(), files: files(upstream), upstream: Arc::clone(made), watch: None }
                }
            };
            running.insert(upstream.name.clone(), taken);
        }
        // What is left over ends; its requests under way hold it until they are done.
        for gone in std::mem::replace(&mut self.running, running).into_values() {
            gone.end(None);
        }
    }

    /// Has those looked after that aren't yet. Within a Tokio runtime.
    pub(super) fn watch(&mut self) {
        for running in self.running.values_mut().filter(|running| running.watch.is_none()) {
            running.watch = Some(self.watches.spawn(Arc::clone(&running.upstream).watch()));
        }
        while self.watches.try_join_next().is_some() {}
    }
}

impl Reloader {
    /// Reads the file again whenever `reload` changes. Never ends by itself.
    pub(super) async fn run(mut self, mut reload: watch::Receiver<u64>) {
        self.upstreams.watch();
        while reload.changed().await.is_ok() {
            if let Some(access) = &self.access {
                access.reopen();
            }
            let Some(path) = self.path.clone() else { continue };
            let outcome = match self.again(&path).await {
                Ok(()) => "taken",
                Err(Unreadable::Faults(faults)) => {
                    tracing::error!(
                        "the configuration is not taken up, the old one goes on:\n{}",
                        faults.render(false)
                    );
                    "refused"
                }
                Err(Unreadable::Secret(error)) => {
                    tracing::error!("the configuration is not taken up, the old one goes on: {error}");
                    "refused"
                }
            };
            self.metrics.config_reloads.with_label_values(&[outcome]).inc();
        }
        // Nobody is left to ask, and upstreams are looked after still.
        std::future::pending::<()>().await;
    }

    async fn again(&mut self, path: &Path) -> Result<(), Unreadable> {
        let Configuration { config, .. } = Configuration::read(path).await?;
        let next = self.upstreams.next(&config, &self.metrics)?;
        let tokens = if config.identity.tokens == self.config.identity.tokens {
            self.tokens.clone()
        } else {
            catalog::tokens(&config, self.catalog.as_ref()).await?
        };
        let quotas = self.quotas.next(&config, &self.metrics);
        let behind = Behind {
            classes: &self.classes,
            upstreams: &next,
            quotas: &quotas.by_name(),
            tokens: tokens.clone(),
            access: self.access.clone(),
        };
        let fixed = fixed(&self.config, &config);
        let config = Config { traces: self.config.traces.clone(), ..config };
        let door = Door::new(&config, behind, self.metrics.clone()).map_err(|name| {
            StartError::new(
                "routes",
                format!("`{name}` is new, and classes are read at start alone: restart to use it"),
            )
        })?;
        self.door.replace(&door);
        self.upstreams.take(&config, next);
        self.upstreams.watch();
        (self.tokens, self.quotas) = (tokens, quotas);
        // What needs a restart is still as it was at the start: it is said again next time.
        let Config { routes, upstreams, quotas, identity, .. } = config;
        (self.config.routes, self.config.upstreams) = (routes, upstreams);
        (self.config.quotas, self.config.identity) = (quotas, identity);
        tracing::info!(
            routes = self.config.routes.len(),
            upstreams = self.config.upstreams.len(),
            "configuration taken up"
        );
        if !fixed.is_empty() {
            let sections = fixed.join(", ");
            tracing::warn!("changes of {sections} are read at start alone: restart to take them");
        }
        Ok(())
    }
}

/// The headers for the collector of traces, which debug text hides.
fn exposed(config: &Config) -> Option<Vec<(&str, &str)>> {
    config.traces.as_ref().map(config::Traces::exposed)
}

/// The sections that have changed, and can't be taken up.
fn fixed(now: &Config, next: &Config) -> Vec<&'static str> {
    // Debug text is the one way to compare what has patterns in it; it goes nowhere.
    let differ = |one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| format!("{one:?}") != format!("{other:?}");
    let sections: [(&'static str, bool); 9] = [
        ("[[listener]]", differ(&now.listeners, &next.listeners)),
        ("[keys]", differ(&now.keys, &next.keys)),
        ("[[class]]", differ(&now.classes, &next.classes)),
        ("[[secret]]", differ(&now.secrets, &next.secrets)),
        ("[catalog]", differ(&now.catalog, &next.catalog)),
        ("[limits]", differ(&now.limits, &next.limits)),
        ("[admin]", differ(&now.admin, &next.admin)),
        ("[log]", differ(&now.log, &next.log)),
        ("[traces]", differ(&now.traces, &next.traces) || exposed(now) != exposed(next)),
    ];
    sections.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}
