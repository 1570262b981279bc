//! Fetches named secrets, follows their versions, and hands them out unseen.
//!
//! A [`Secret`] is a handle that many hold. Its value is replaced whole by [`Secret::run`],
//! which looks now and then, or by [`Secret::after`], for whom the value no longer opens
//! its door. No value is ever in a log, an error or a `Debug`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use serde::Deserialize as _;
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use crate::{
    aws::{Trouble, TroubleKind},
    config::SecretSource,
    metrics::Metrics,
    secret::{SecretText, jittered},
};

mod field;
mod local;
mod manager;
mod parameter;

pub use manager::Manager;
pub use parameter::Parameter;

/// The largest value taken, in bytes; that of Secrets Manager.
const MOST: usize = 64 << 10;
/// After a look that was asked for by a user who was refused, the next such look waits
/// so long: a wrong password must not become a flood of calls.
const FORCED: Duration = Duration::from_secs(2);
/// A look that fails is repeated sooner than a usual one, at most.
const RETRY: Duration = Duration::from_secs(30);

/// One version of a secret.
#[derive(Clone)]
pub struct Version {
    /// What its source calls this version; never made out of the value.
    pub id: String,
    /// The value.
    pub value: SecretText,
    /// The version before it, where the source tells.
    pub previous: Option<SecretText>,
    /// When this version came to be.
    pub since: SystemTime,
}

/// Where a secret comes from.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// What the source calls the secret.
    fn place(&self) -> &str;

    /// The current version, or `None` while that is still the one called `known`.
    ///
    /// # Errors
    /// [`Refusal`] says what is wrong, and never a value.
    async fn fetch(&self, known: Option<&str>) -> Result<Option<Version>, Refusal>;
}

/// Why a secret can't be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the source calls the secret.
    pub place: String,
    /// What is wrong, and the mend.
    pub what: String,
}

/// A secret, as everybody who uses it holds it.
#[derive(Clone)]
pub struct Secret(Arc<Inner>);

struct Inner {
    name: String,
    refresh: Option<Duration>,
    current: watch::Sender<Arc<Version>>,
    /// Held by the one who asks the source; the others wait for what that brings.
    source: Mutex<Asking>,
    metrics: Metrics,
}

struct Asking {
    source: Box<dyn Source>,
    forced: Option<Instant>,
    /// What was last said of a failure, so that it is said once.
    refused: Option<Refusal>,
}

impl Secret {
    /// Asks `source` for the first version. With `refresh`, [`Self::run`] looks about so often.
    ///
    /// # Errors
    /// [`Refusal`]: without a first version there is nothing to use.
    pub async fn open(
        name: &str,
        source: Box<dyn Source>,
        refresh: Option<Duration>,
        metrics: Metrics,
    ) -> Result<Self, Refusal> {
        let first = match fetch(source.as_ref(), None).await {
            Ok(Some(first)) => Arc::new(first),
            Ok(None) => return Err(Refusal::new(name, "has no version")),
            Err(refusal) => return Err(refusal),
        };
        let secret = Self(Arc::new(Inner {
            name: name.to_owned(),
            refresh,
            current: watch::Sender::new(first),
            source: Mutex::new(Asking { source, forced: None, refused: None }),
            metrics,
        }));
        secret.tell(&secret.current());
        Ok(secret)
    }

    /// The name by which the configuration calls it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The version that is current.
    pub fn current(&self) -> Arc<Version> {
        Arc::clone(&self.0.current.borrow())
    }

    /// Moves whenever there is another version.
    pub fn changes(&self) -> watch::Receiver<Arc<Version>> {
        self.0.current.subscribe()
    }

    /// The version after the one called `refused`, which opened no door: the source is
    /// asked at once, by one of all who ask. The same version where there is no other yet.
    ///
    /// # Errors
    /// [`Refusal`] when the source can't be asked.
    pub async fn after(&self, refused: &str) -> Result<Arc<Version>, Refusal> {
        let mut asking = self.0.source.lock().await;
        let current = self.current();
        if current.id != refused || asking.forced.is_some_and(|last| last.elapsed() < FORCED) {
            return Ok(current);
        }
        asking.forced = Some(Instant::now());
        self.look(&mut asking).await?;
        Ok(self.current())
    }

    /// Asks the source now, whatever it said before.
    ///
    /// # Errors
    /// [`Refusal`] when it can't be asked; the version at hand stays.
    pub async fn refresh(&self) -> Result<(), Refusal> {
        let mut asking = self.0.source.lock().await;
        // Who asks is told again.
        asking.refused = None;
        self.look(&mut asking).await
    }

    /// Looks now and then, and at once whenever `reload` changes. Never ends by itself.
    pub async fn run(self, mut reload: watch::Receiver<u64>) {
        let mut failed = false;
        let mut reloads = true;
        loop {
            let usual = async {
                match self.0.refresh {
                    Some(refresh) if failed => tokio::time::sleep(jittered(refresh.min(RETRY))).await,
                    Some(refresh) => tokio::time::sleep(jittered(refresh)).await,
                    None => std::future::pending().await,
                }
            };
            let looked = tokio::select! {
                () = usual => {
                    let mut asking = self.0.source.lock().await;
                    self.look(&mut asking).await
                }
                changed = reload.changed(), if reloads => {
                    reloads = changed.is_ok();
                    if !reloads {
                        continue;
                    }
                    self.refresh().await
                }
            };
            failed = looked.is_err();
        }
    }

    async fn look(&self, asking: &mut Asking) -> Result<(), Refusal> {
        let known = self.current();
        let outcome = match fetch(asking.source.as_ref(), Some(&known.id)).await {
            Ok(None) => "same",
            Ok(Some(next)) => {
                let next = Arc::new(next);
                self.tell(&next);
                self.0.current.send_replace(next);
                "new"
            }
            Err(refusal) => {
                self.count("failed");
                if asking.refused.as_ref() != Some(&refusal) {
                    tracing::warn!(
                        secret = self.0.name,
                        "a secret can't be looked at, the one at hand stays: {refusal}"
                    );
                    asking.refused = Some(refusal.clone());
                }
                return Err(refusal);
            }
        };
        if asking.refused.take().is_some() {
            tracing::info!(secret = self.0.name, "the secret can be looked at again");
        }
        self.count(outcome);
        Ok(())
    }

    fn tell(&self, version: &Version) {
        let since = version.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let gauge = self.0.metrics.secret_version.with_label_values(&[&self.0.name]);
        gauge.set(i64::try_from(since).unwrap_or(i64::MAX));
        tracing::info!(secret = self.0.name, version = version.id, "secret in use");
    }

    fn count(&self, outcome: &str) {
        self.0.metrics.secret_refreshes.with_label_values(&[&self.0.name, outcome]).inc();
    }
}

impl Version {
    /// The whole value, or with `field` that of its JSON object.
    ///
    /// # Errors
    /// What it lacks, in words that hold nothing of it.
    pub fn text(&self, field: Option<&str>) -> Result<SecretText, NoField> {
        pick(&self.value, field)
    }

    /// As [`Self::text`], of the version before, where that is known and has it.
    pub fn previous_text(&self, field: Option<&str>) -> Option<SecretText> {
        self.previous.as_ref().and_then(|value| pick(value, field).ok())
    }
}

/// A value without the field that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoField {
    /// It is no JSON object.
    NotJson(String),
    /// The object has no such field of text, a whole number or a truth value.
    Lacks(String),
}

fn pick(value: &SecretText, field: Option<&str>) -> Result<SecretText, NoField> {
    let Some(field) = field else { return Ok(value.clone()) };
    let mut json = serde_json::Deserializer::from_str(value.expose());
    let fields = BTreeMap::<String, field::Field>::deserialize(&mut json);
    // The parser's own words may quote what it stumbled over.
    let fields = fields.ok().filter(|_| json.end().is_ok()).ok_or_else(|| NoField::NotJson(field.to_owned()))?;
    let found = fields.into_iter().find(|(name, _)| name == field).and_then(|(_, value)| value.0);
    found.ok_or_else(|| NoField::Lacks(field.to_owned()))
}

/// What `source` has, if it is of a size that is taken.
async fn fetch(source: &dyn Source, known: Option<&str>) -> Result<Option<Version>, Refusal> {
    let found = source.fetch(known).await?;
    match &found {
        Some(version) if version.value.expose().len() > MOST => {
            Err(Refusal::new(source.place(), "is larger than 64 KiB"))
        }
        _ => Ok(found),
    }
}

/// The source that `config` describes; AWS is asked with the settings of `aws`, in the
/// secret's own region where its name says one.
///
/// # Errors
/// When AWS isn't configured.
pub async fn source(config: &SecretSource, region: Option<&str>) -> Result<Box<dyn Source>, Refusal> {
    let aws = |name: String| async move {
        let loaded = crate::aws::load(region_of(&name).or(region)).await;
        loaded.map_err(|error| Refusal::new(&name, error.to_string()))
    };
    Ok(match config {
        SecretSource::Manager(id) => Box::new(Manager::new(&aws(id.clone()).await?, id)),
        SecretSource::Parameter(name) => Box::new(Parameter::new(&aws(name.clone()).await?, name)?),
        SecretSource::File(path) => Box::new(local::File::new(path)),
        SecretSource::Env(name) => Box::new(local::Env::new(name)),
    })
}

/// The region in an ARN.
fn region_of(name: &str) -> Option<&str> {
    let mut parts = name.strip_prefix("arn:")?.split(':');
    parts.nth(2).filter(|region| !region.is_empty())
}

impl Refusal {
    fn new(place: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), what: what.into() }
    }

    /// A failed call; `action` is what IAM calls it.
    fn of(place: &str, trouble: &Trouble, action: &str) -> Self {
        let what = match trouble.kind {
            TroubleKind::Denied => format!("{}; allow {action}, and kms:Decrypt with its key", trouble.detail),
            _ => trouble.detail.clone(),
        };
        Self::new(place, what)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for NoField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(field) => write!(f, "is no JSON object, so that it has no field `{field}`"),
            Self::Lacks(field) => write!(f, "has no field `{field}` that is text, a whole number, true or false"),
        }
    }
}

impl std::error::Error for NoField {}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.0.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
