//! The catalogue: opened with its secret, and what is sealed for it.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{Classes, StartError, classes::Sources, secrets::Held};
use crate::{
    catalog::{self, Catalog, Sealing, Tokens},
    config::{self, Away, Config},
    identity::{TokenFile, TokenStore},
    keys::{DataKeys, Unwrapped},
    metrics::Metrics,
    objects::ObjectKey,
    proof::Proof,
    secret::jittered,
};

/// How often what has been pending for so long is looked at.
const SETTLE: Duration = Duration::from_secs(300);
/// How long background work is one replica's.
const LEASE: Duration = Duration::from_secs(900);

/// The catalogue of `config`, if it has one, for a process that serves.
pub(super) async fn open(config: &Config, held: &Held) -> Result<Option<Arc<Catalog>>, StartError> {
    let Some(catalog) = &config.catalog else { return Ok(None) };
    let sealing = match catalog.away {
        Away::Spool { .. } => sealing(config, None, &held.metrics).await?,
        Away::Deny => None,
    };
    opened(catalog, held, sealing).await.map(Some)
}

/// The catalogue of `config`, for a command: it fetches its own secret, and spools nothing.
///
/// # Errors
/// [`StartError`] when there is none, or it can't be had.
pub async fn catalog(config: &Config) -> Result<Arc<Catalog>, StartError> {
    let missing = || StartError::new("catalogue", "the configuration has no [catalog]");
    let catalog = config.catalog.as_ref().ok_or_else(missing)?;
    let mut held = Held::new()?;
    let secret = |secret: &&config::Secret| Some(secret.name.as_str()) == catalog.secret();
    if let Some(secret) = config.secrets.iter().find(secret) {
        held.open(secret).await?;
    }
    let catalog = opened(catalog, &held, None).await?;
    tokio::spawn(Arc::clone(&catalog).watch());
    Ok(catalog)
}

async fn opened(config: &config::Catalog, held: &Held, sealing: Option<Sealing>) -> Result<Arc<Catalog>, StartError> {
    let secret = config.secret().map(|name| held.secret(name)).transpose()?;
    let opened = Catalog::open(config, secret, sealing, held.metrics.clone()).await;
    opened.map_err(|error| StartError::new("catalogue", format!("its database can't be used: {error}")))
}

/// What seals for the catalogue: the keys of the first class.
async fn sealing(
    config: &Config,
    catalog: Option<&Arc<Catalog>>,
    metrics: &Metrics,
) -> Result<Option<Sealing>, StartError> {
    let (Some(class), Some(keys)) = (config.classes.first(), &config.keys) else { return Ok(None) };
    let provider = Sources::new(config, metrics, catalog).await?.keys(class).await?.provider;
    let keys = DataKeys::new("catalog", provider, keys.cache, Unwrapped::new(&keys.cache), metrics.clone());
    Ok(Some(Sealing::new(Arc::new(keys))))
}

/// The tokens that `catalog` keeps.
///
/// # Errors
/// [`StartError`] when they can't be had.
pub async fn catalog_tokens(config: &Config, catalog: &Arc<Catalog>) -> Result<Tokens, StartError> {
    let metrics = Metrics::new().map_err(StartError::of("metrics"))?;
    let missing =
        || StartError::new("identity", "tokens in the catalogue are kept under a class's key: add a [[class]]");
    let sealing = sealing(config, Some(catalog), &metrics).await?.ok_or_else(missing)?;
    Tokens::open(Arc::clone(catalog), &sealing).await.map_err(StartError::of("identity"))
}

/// Where the tokens of `config` are.
pub(super) async fn tokens(
    config: &Config,
    catalog: Option<&Arc<Catalog>>,
) -> Result<Option<Arc<dyn TokenStore>>, StartError> {
    Ok(match (&config.identity.tokens, catalog) {
        (None, _) => None,
        (Some(config::Tokens::Catalog), Some(catalog)) => Some(Arc::new(catalog_tokens(config, catalog).await?)),
        (Some(config::Tokens::Catalog), None) => return Err(StartError::new("identity", "there is no [catalog]")),
        (Some(config::Tokens::File(path)), _) => {
            let tokens = TokenFile::open(path, false).map_err(|error| {
                let help = "`sealward token new NAME --config …` makes the first token";
                StartError::new("identity", format!("{error}\n  help: {help}"))
            })?;
            Some(Arc::new(tokens))
        }
    })
}

/// Starts what keeps it going, and what goes over classes whose freshness is enforced.
pub(super) fn watch(catalog: &Arc<Catalog>, classes: &Classes, tasks: &mut JoinSet<()>) {
    tasks.spawn(Arc::clone(catalog).watch());
    for objects in classes.values().filter(|objects| objects.class().fresh) {
        let (catalog, objects) = (Arc::clone(catalog), Arc::clone(objects));
        tasks.spawn(async move {
            let class = objects.class();
            loop {
                tokio::time::sleep(jittered(SETTLE)).await;
                let Some(before) = std::time::SystemTime::now().checked_sub(SETTLE) else { continue };
                if !is_ours(&catalog, &format!("settle {}", class.name)).await {
                    continue;
                }
                let names = catalog.unsettled(&class.name, before).await.unwrap_or_else(|error| {
                    tracing::warn!(class = class.name, %error, "what is pending can't be asked for");
                    Vec::new()
                });
                for name in names {
                    let Ok(key) = ObjectKey::new(&name, &class.prefix) else { continue };
                    if let Err(fault) = objects.settle(&key).await {
                        tracing::warn!(class = class.name, %fault, "what is pending can't be settled now");
                    }
                }
            }
        });
    }
}

/// Whether the work called `name` is this replica's for now.
pub(super) async fn is_ours(catalog: &Catalog, name: &str) -> bool {
    match catalog.lease(name, LEASE).await {
        Ok(ours) => ours,
        Err(error) => {
            tracing::debug!(%error, name, "nobody can be told who does the work");
            false
        }
    }
}

/// Tries the database of `config`, and looks at where records are spooled.
pub(super) async fn prove(config: &Config, held: &Held) -> (Vec<Proof>, Option<Arc<Catalog>>) {
    let Some(catalog) = &config.catalog else { return (Vec::new(), None) };
    let mut proofs = persistent(catalog);
    let (proof, opened) = match opened(catalog, held, None).await {
        Ok(opened) => (Proof::ok("reach its database", "its schema is up to date"), Some(opened)),
        Err(error) => (Proof::fail("reach its database", error.what), None),
    };
    proofs.push(proof.of("catalogue"));
    (proofs, opened)
}

/// Whether what is spooled would survive a restart.
fn persistent(catalog: &config::Catalog) -> Vec<Proof> {
    let Away::Spool { folder, .. } = &catalog.away else { return Vec::new() };
    let what = "keep its spool";
    let proof = match catalog::is_transient(folder) {
        Some(why) => Proof::warn(what, format!("{}: not a persistent path: {why}", folder.display())),
        None => Proof::ok(what, folder.display()),
    };
    vec![proof.of("catalogue")]
}
