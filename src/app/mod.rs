//! The only place that knows every room: from a configuration to a running whole.
//!
//! [`App::build`] is the order in which things come alive, in one function.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::watch;

mod catalog;
mod classes;
mod health;
mod listeners;
mod proving;
mod reload;
mod rework;
mod secrets;

pub use catalog::{catalog, catalog_tokens};
pub use classes::{Classes, keys_of};
pub use proving::prove;
pub use rework::{Alone, Whence, origin};
pub use secrets::{Configuration, Unreadable};

use listeners::{Keeper, Listeners};
use reload::{Quotas, Reloader, Upstreams};

use crate::{
    budget::Budget,
    catalog::Catalog,
    config::{KeyProvider, Limits},
    door::{Access, Behind, Door},
    metrics::Metrics,
    objects::{Bounds, Slots},
    proof::Proof,
    server::{
        Drained, Passed, Server, Stop,
        admin::{Admin, Readiness},
        drain::reached,
    },
    tls::CertificateSlot,
    upstream::Connections,
};

/// How often keys past their time are forgotten.
const SWEEP: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
/// What uploads get beyond the drain's time, to undo what they began.
const UNDOING: Duration = Duration::from_secs(5);

/// Everything, alive but not yet serving.
pub struct App {
    server: Server,
    admin: Admin,
    door: Door,
    reloader: Reloader,
    classes: Classes,
    catalog: Option<Arc<Catalog>>,
    held: secrets::Held,
    keepers: Vec<Keeper>,
    /// Certificates that are still to come.
    empty: Vec<Arc<CertificateSlot>>,
    /// How many there are to be.
    certificates: usize,
    readiness: watch::Sender<Readiness>,
    uploads: Slots,
    budget: Budget,
    drain_delay: Duration,
    drain_timeout: Duration,
    /// How often the keys of classes are looked at, where a service can be asked.
    key_check: Duration,
}

/// Why nothing starts: which part, and what is wrong with it.
#[derive(Debug)]
pub struct StartError {
    part: String,
    what: String,
}

impl App {
    /// Builds everything that `config` describes, proves each class by its canary,
    /// and binds every socket that wasn't `passed`. Within a Tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] names the part and the mend.
    pub async fn build(configuration: Configuration, mut passed: Passed) -> Result<Self, StartError> {
        let Configuration { mut config, mut held, path } = configuration;
        let metrics = held.metrics.clone();
        let as_read = config.clone();
        for secret in &config.secrets {
            held.open(secret).await?;
        }
        held.tell();
        let to_apps = match crate::server::files::raise_file_limit() {
            Ok(limit) => clamp_connections(&mut config.limits, limit, !config.upstreams.is_empty()),
            Err(error) => {
                tracing::warn!(%error, "the soft file limit stays as it is");
                usize::MAX
            }
        };
        let uploads = Slots::new(config.limits.uploads);
        let bounds = Bounds {
            budget: Budget::new(config.limits.buffer_memory),
            buffer_wait: config.limits.buffer_wait,
            max_part: config.limits.max_part,
            send_idle: config.limits.send_idle_timeout,
            min_rate: config.limits.min_body_rate,
            uploads: uploads.clone(),
        };
        let budget = bounds.budget.clone();
        let mut classes = Classes::new();
        let catalog = catalog::open(&config, &held).await?;
        for built in classes::build(&config, &bounds, catalog.as_ref(), &metrics).await? {
            let canary = match &built.objects {
                Some(objects) if !built.proofs.iter().any(Proof::failed) => objects.canary().await,
                _ => Vec::new(),
            };
            if let Some(failed) = built.proofs.into_iter().chain(canary).find(Proof::failed) {
                return Err(failed.into());
            }
            classes.extend(built.objects.map(|objects| (built.name, objects)));
        }
        let tokens = catalog::tokens(&config, catalog.as_ref()).await?;
        let mut upstreams = Upstreams::new(Connections::new(to_apps));
        let made = upstreams.next(&config, &metrics)?;
        let access = config.log.access.as_ref().map(|log| Access::open(log, metrics.clone())).transpose();
        let access = access.map_err(StartError::of("access log"))?;
        let quotas = Quotas::default().next(&config, &metrics);
        let behind = Behind {
            classes: &classes,
            upstreams: &made,
            quotas: &quotas.by_name(),
            tokens: tokens.clone(),
            access: access.clone(),
        };
        let door = Door::new(&config, behind, metrics.clone())
            .map_err(|name| StartError::new("routes", format!("there is no `{name}`")))?;

        let Listeners { fronts, keepers, empty, .. } = listeners::build(&config.listeners, &held).await?;
        upstreams.take(&config, made);
        let reloader = Reloader {
            path,
            config: as_read,
            door: door.clone(),
            classes: classes.clone(),
            upstreams,
            quotas,
            tokens,
            catalog: catalog.clone(),
            access,
            metrics: metrics.clone(),
        };
        let certificates = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let certificates = certificates.map(|tls| tls.certificates.len()).sum();
        let (readiness, ready) = watch::channel(Readiness::Ready { degraded: vec![] });
        let server = Server::bind(fronts, &mut passed, config.limits.clone(), metrics.clone())
            .map_err(StartError::of("listener"))?;
        let gauges = gauges(budget.clone(), catalog.clone());
        let admin = Admin::bind(config.admin.bind, &mut passed, config.limits.clone(), metrics.clone(), ready, gauges)
            .map_err(StartError::of("admin"))?;
        passed.used_up().map_err(StartError::of("listener"))?;
        let (drain_delay, drain_timeout) = (config.limits.drain_delay, config.limits.drain_timeout);
        let key_check = match config.keys.map(|keys| keys.provider) {
            Some(KeyProvider::Kms { key_check, .. }) => key_check,
            _ => HOUR,
        };
        Ok(Self {
            server,
            admin,
            door,
            reloader,
            classes,
            catalog,
            held,
            keepers,
            empty,
            certificates,
            readiness,
            uploads,
            budget,
            drain_delay,
            drain_timeout,
            key_check,
        })
    }

    /// Where clients come in.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.server.local_addrs()
    }

    /// How long what is under way may take at the end.
    pub fn drain_timeout(&self) -> Duration {
        self.drain_delay + self.drain_timeout + UNDOING
    }

    /// Where metrics and health are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.local_addr()
    }

    /// Serves until `stop` says so, then lets requests and uploads finish within
    /// the drain's time. `reload` is raised to have certificates looked at at once.
    pub async fn run(self, stop: watch::Receiver<Stop>, reload: watch::Receiver<u64>) -> Drained {
        let Self {
            server,
            admin,
            door,
            reloader,
            classes,
            catalog,
            held,
            keepers,
            empty,
            certificates,
            readiness,
            uploads,
            budget,
            drain_delay,
            drain_timeout,
            key_check,
        } = self;
        let mut background = tokio::task::JoinSet::new();
        for keep in keepers {
            background.spawn(keep(reload.clone()));
        }
        background.spawn(reloader.run(reload.clone()));
        held.watch(&reload, &mut background);
        background.spawn(async move { match admin.serve().await {} });
        background.spawn(sweep(classes.clone(), budget));
        let health = health::Health::new(classes.len(), certificates, readiness);
        for slot in empty {
            health::certificate(&health, slot, &mut background);
        }
        if let Some(catalog) = &catalog {
            catalog::watch(catalog, &classes, &mut background);
            health::catalog(&health, Arc::clone(catalog), &mut background);
        }
        health::watch(&health, classes, catalog, key_check, &mut background);
        let mut stopping = stop;
        let (late, stop) = watch::channel(Stop::Run);
        background.spawn(async move {
            reached(&mut stopping, Stop::Drain).await;
            health.stopping();
            // Balancers are to find out before anybody is refused.
            if !drain_delay.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(drain_delay) => {}
                    () = reached(&mut stopping, Stop::Cut) => {}
                }
            }
            late.send_replace(Stop::Drain);
            reached(&mut stopping, Stop::Cut).await;
            late.send_replace(Stop::Cut);
        });
        let mut cut = stop.clone();
        let mut begun = stop.clone();
        let deadline = tokio::spawn(async move {
            reached(&mut begun, Stop::Drain).await;
            tokio::time::Instant::now() + drain_timeout
        });
        let undone = async {
            let deadline = deadline.await.unwrap_or_else(|_| tokio::time::Instant::now());
            // An upload's task outlives its connection: it finishes, or undoes what it
            // began. One bound for both: a moment is left for undoing.
            tokio::select! {
                () = uploads.drained() => {}
                () = tokio::time::sleep_until(deadline + UNDOING) => {
                    tracing::warn!(uploads = uploads.in_use(), "uploads were still under way at the end of the drain");
                }
                () = async {
                    reached(&mut cut, Stop::Cut).await;
                    // What is cut is undone: nothing half-done stays.
                    tokio::time::sleep(UNDOING).await;
                } => {}
            }
        };
        server.serve(door, stop, undone).await
    }
}

/// What is looked at when somebody asks for metrics.
fn gauges(budget: Budget, catalog: Option<Arc<Catalog>>) -> impl Fn(&Metrics) + Send + Sync + 'static {
    move |metrics| {
        if let Some(catalog) = &catalog {
            catalog.gauge();
        }
        let bytes = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.buffer_memory.with_label_values(&["used"]).set(bytes(budget.in_use()));
        metrics.buffer_memory.with_label_values(&["kept"]).set(bytes(budget.unused()));
        metrics.buffer_memory.with_label_values(&["total"]).set(bytes(budget.total()));
    }
}

/// What each core's runtime holds open for itself.
const FILES_OF_A_CORE: u64 = 4;

/// Connections never take the descriptors that files need: an eighth is kept, and those of the
/// cores' runtimes. With apps behind a third is theirs: a client that asks needs a connection there.
/// How many that is.
fn clamp_connections(limits: &mut Limits, descriptors: u64, apps: bool) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let kept = descriptors / 8 + FILES_OF_A_CORE * cores;
    let left = descriptors.saturating_sub(kept);
    let most = if apps { left / 3 * 2 } else { left };
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(16);
    if limits.connections > most {
        tracing::warn!(
            connections = most,
            configured = limits.connections,
            descriptors,
            "fewer connections than configured: raise the hard limit of open files (ulimit -Hn) for more"
        );
        limits.connections = most;
    }
    usize::try_from(left / 3).unwrap_or(usize::MAX).max(16)
}

/// Ends the time of keys, whether or not anybody asks for them, and lets go of memory
/// that nobody needs.
async fn sweep(classes: Classes, budget: Budget) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        sweep.tick().await;
        budget.trim();
        for objects in classes.values() {
            objects.sweep();
        }
    }
}

impl StartError {
    fn new(part: impl Into<String>, what: impl Into<String>) -> Self {
        Self { part: part.into(), what: what.into() }
    }

    fn of<E: fmt::Display>(part: &str) -> impl FnOnce(E) -> Self + use<'_, E> {
        move |error| Self::new(part, error.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)
    }
}

impl std::error::Error for StartError {}

impl From<Proof> for StartError {
    fn from(proof: Proof) -> Self {
        Self { part: proof.of, what: format!("{}: {}", proof.what, proof.words) }
    }
}
