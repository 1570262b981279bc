//! Secrets of a configuration: fetched before it can be understood where values of it
//! come out of them, and lent to the rooms that follow one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::StartError;
use crate::{
    config::{self, Config, Faults, Parsed, Text, TicketSecret},
    metrics::Metrics,
    proof::Proof,
    secret::SecretText,
    secrets::{self, Secret, Version},
    tls::{bundle::SecretSource, tickets::SharedTickets},
};

/// A configuration, and the secrets that had to be fetched to understand it.
#[derive(Debug)]
pub struct Configuration {
    /// The configuration.
    pub config: Config,
    pub(super) held: Held,
    /// Where it can be read again.
    pub(super) path: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Unreadable {
    /// Its text has faults.
    Faults(Faults),
    /// A secret that it needs can't be had.
    Secret(StartError),
}

/// Secrets at hand, by name.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) metrics: Metrics,
    secrets: BTreeMap<String, Secret>,
    /// Those out of which values of the configuration came, each with its field.
    read: Mutex<BTreeSet<(String, Option<String>)>>,
}

impl Configuration {
    /// Reads the file at `path`, fetching what it needs.
    ///
    /// # Errors
    /// [`Unreadable`], with every fault or the secret that can't be had.
    pub async fn read(path: &Path) -> Result<Self, Unreadable> {
        let text = Text::read(path)?;
        let mut held = Held::new()?;
        loop {
            match text.parse(&|name, field| held.value(name, field))? {
                Parsed::Whole(config) => return Ok(Self { config: *config, held, path: Some(path.to_owned()) }),
                Parsed::Wanting(wanted) => {
                    for secret in wanted {
                        held.open(&secret).await?;
                    }
                }
            }
        }
    }

    /// `config`, which needs nothing fetched.
    ///
    /// # Errors
    /// When metrics can't be registered.
    pub fn of(config: Config) -> Result<Self, StartError> {
        Ok(Self { config, held: Held::new()?, path: None })
    }

    /// The families that all of it counts in.
    pub fn metrics(&self) -> Metrics {
        self.held.metrics.clone()
    }
}

impl Held {
    pub(super) fn new() -> Result<Self, StartError> {
        let metrics = Metrics::new().map_err(StartError::of("metrics"))?;
        Ok(Self { metrics, secrets: BTreeMap::new(), read: Mutex::default() })
    }

    fn value(&self, name: &str, field: Option<&str>) -> Option<Result<SecretText, String>> {
        let version = self.secrets.get(name)?.current();
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert((name.to_owned(), field.map(str::to_owned)));
        Some(version.text(field).map_err(|error| error.to_string()))
    }

    /// Fetches the first version of what `config` describes, unless it is at hand.
    pub(super) async fn open(&mut self, config: &config::Secret) -> Result<(), StartError> {
        if self.secrets.contains_key(&config.name) {
            return Ok(());
        }
        let part = format!("secret `{}`", config.name);
        let source = secrets::source(&config.source, config.region.as_deref()).await;
        let source = source.map_err(StartError::of(&part))?;
        let secret = Secret::open(&config.name, source, Some(config.refresh), self.metrics.clone()).await;
        self.secrets.insert(config.name.clone(), secret.map_err(StartError::of(&part))?);
        Ok(())
    }

    /// Says which are in use: they may have been fetched before there was a log.
    pub(super) fn tell(&self) {
        for secret in self.secrets.values() {
            tracing::info!(secret = secret.name(), version = secret.current().id, "secret at hand");
        }
    }

    /// Fetches every secret of `config`, to the end of the list rather than to the first fault.
    pub(super) async fn prove(&mut self, config: &Config) -> Vec<Proof> {
        let mut proofs = Vec::new();
        for secret in &config.secrets {
            let proof = match self.open(secret).await {
                Ok(()) => {
                    let version = self.secrets.get(&secret.name).map(Secret::current);
                    Proof::ok(
                        "be fetched",
                        format!("version {}", version.map_or_else(String::new, |found| found.id.clone())),
                    )
                }
                Err(error) => Proof::fail("be fetched", error.what),
            };
            proofs.push(proof.of(format!("secret `{}`", secret.name)));
        }
        proofs
    }

    /// The secret `name`.
    pub(super) fn secret(&self, name: &str) -> Result<Secret, StartError> {
        let missing = || StartError::new(format!("secret `{name}`"), "it isn't at hand");
        self.secrets.get(name).cloned().ok_or_else(missing)
    }

    /// The secret `name`, as rooms that follow one take it.
    pub(super) fn lend(&self, name: &str) -> Result<Box<dyn SecretSource>, StartError> {
        let secret = self.secret(name)?;
        Ok(Box::new(Lent { changes: secret.changes(), secret }))
    }

    /// The tickets of a listener.
    pub(super) fn tickets(&self, config: &TicketSecret) -> Result<Tickets, StartError> {
        let part = StartError::of("ticket_secret");
        match config {
            TicketSecret::File(path) => Ok((SharedTickets::of_file(path).map_err(part)?, None)),
            TicketSecret::Secret(found) => {
                let lent = self.lend(&found.name)?;
                let (tickets, follow) = SharedTickets::of_secret(lent, found.field.clone()).map_err(part)?;
                Ok((tickets, Some(follow)))
            }
        }
    }

    /// Keeps every secret at hand true, until dropped; says so when a value of the
    /// configuration, which is read at start alone, has a successor.
    pub(super) fn watch(self, reload: &watch::Receiver<u64>, tasks: &mut tokio::task::JoinSet<()>) {
        for (name, field) in self.read.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if let Some(secret) = self.secrets.get(&name) {
                tasks.spawn(tell(secret.clone(), field));
            }
        }
        for (_, secret) in self.secrets {
            tasks.spawn(secret.run(reload.clone()));
        }
    }
}

type Tickets = (Arc<SharedTickets>, Option<crate::tls::tickets::Follow>);

async fn tell(secret: Secret, field: Option<String>) {
    let mut changes = secret.changes();
    let text = |version: &Version| version.text(field.as_deref()).ok();
    let read = text(&secret.current());
    while changes.changed().await.is_ok() {
        let same = match (text(&secret.current()), &read) {
            (Some(now), Some(read)) => now.expose() == read.expose(),
            _ => false,
        };
        if !same {
            let field = field.as_deref().unwrap_or("the whole");
            let words = "a value of the configuration comes out of an older version: restart to take the new one";
            tracing::warn!(secret = secret.name(), field, "{words}");
        }
    }
}

/// A secret, lent to a room that doesn't know where secrets come from.
struct Lent {
    secret: Secret,
    changes: watch::Receiver<Arc<Version>>,
}

#[async_trait]
impl SecretSource for Lent {
    fn name(&self) -> &str {
        self.secret.name()
    }

    fn text(&self, field: Option<&str>) -> Result<SecretText, String> {
        self.secret.current().text(field).map_err(|error| error.to_string())
    }

    fn previous(&self, field: Option<&str>) -> Option<SecretText> {
        self.secret.current().previous_text(field)
    }

    async fn changed(&mut self) {
        // The secret lives as long as we do.
        let _ = self.changes.changed().await;
    }
}

impl From<Faults> for Unreadable {
    fn from(faults: Faults) -> Self {
        Self::Faults(faults)
    }
}

impl From<StartError> for Unreadable {
    fn from(error: StartError) -> Self {
        Self::Secret(error)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faults(faults) => faults.fmt(f),
            Self::Secret(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unreadable {}
