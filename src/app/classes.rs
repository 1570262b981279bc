//! From the classes of a configuration to classes at work: keys, stores, and what
//! joins them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::StartError;
use crate::{
    aws,
    catalog::Catalog,
    config::{Bucket, Class, Config, Delete, KeyProvider as ProviderConfig, Place, Sse, is_key_arn},
    index::Index,
    keys::{
        DataKeys, KeyProvider, KeyStanding, Unwrapped,
        kms::{self, KmsKeys},
        local::{Keyring, SERVER_BLOCK},
    },
    metrics::Metrics,
    objects::{Bounds, Objects},
    proof::Proof,
    store::{
        Store,
        fs::FsStore,
        s3::{self, S3Store},
    },
};

/// The classes by name.
pub type Classes = HashMap<String, Arc<Objects>>;

/// A class, as far as it could be built.
pub(super) struct Built {
    pub(super) name: String,
    /// What its keys were seen to be, and what kept it from being built.
    pub(super) proofs: Vec<Proof>,
    pub(super) objects: Option<Arc<Objects>>,
}

/// Builds every class: its keys asked for, its store opened.
///
/// # Errors
/// [`StartError`] for what isn't one class's own.
pub(super) async fn build(
    config: &Config,
    bounds: &Bounds,
    catalog: Option<&Arc<Catalog>>,
    metrics: &Metrics,
) -> Result<Vec<Built>, StartError> {
    let Some(keys) = &config.keys else { return Ok(Vec::new()) };
    let mut sources = Sources::new(config, metrics, catalog).await?;
    let unwrapped = Unwrapped::new(&keys.cache);
    let mut classes = Vec::new();
    for class in &config.classes {
        let mut proofs = Vec::new();
        let made = match sources.keys(class).await {
            Err(error) => Err(("get its keys", error)),
            Ok(SourcedKeys { provider, arn, proof }) => {
                let unnamed = arn.as_ref().is_some_and(String::is_empty);
                proofs.extend(proof);
                match sources.store(class, arn) {
                    Err(error) => Err(("open its store", error)),
                    // Nothing is asked of S3 under a key whose ARN isn't known.
                    Ok(_) if unnamed => Ok(None),
                    Ok(store) => Ok(Some((provider, store))),
                }
            }
        };
        let objects = match made {
            Ok(made) => made.map(|(provider, store)| {
                let data_keys = DataKeys::new(&class.name, provider, keys.cache, unwrapped.clone(), metrics.clone());
                let objects = Objects::new(class.clone(), store, Arc::new(data_keys), bounds.clone(), metrics.clone());
                Arc::new(objects.indexed(index(catalog)))
            }),
            Err((what, error)) => {
                proofs.push(Proof::fail(what, error.what));
                None
            }
        };
        let of = format!("class `{}`", class.name);
        let proofs = proofs.into_iter().map(|proof| proof.of(&of)).collect();
        classes.push(Built { name: class.name.clone(), proofs, objects });
    }
    Ok(classes)
}

/// What objects are told to, where there is a catalogue.
pub(super) fn index(catalog: Option<&Arc<Catalog>>) -> Option<Arc<dyn Index>> {
    catalog.map(|catalog| Arc::clone(catalog) as Arc<dyn Index>)
}

/// The keys of one class alone, for the offline commands.
///
/// # Errors
/// [`StartError`] when they can't be had.
pub async fn keys_of(config: &Config, class: &Class, metrics: &Metrics) -> Result<Arc<dyn KeyProvider>, StartError> {
    let mut sources = Sources::new(config, metrics, None).await?;
    // A command wraps once; it doesn't use a block of the keyring's count up.
    sources.block = crate::keys::local::COMMAND_BLOCK;
    let SourcedKeys { provider, proof, .. } = sources.keys(class).await?;
    match proof.filter(Proof::failed) {
        Some(proof) => Err(StartError::from(proof.of(format!("class `{}`", class.name)))),
        None => Ok(provider),
    }
}

/// The keys of a class.
pub(super) struct SourcedKeys {
    pub(super) provider: Arc<dyn KeyProvider>,
    /// The ARN of the key that seals, where that is KMS's; empty where it couldn't be learnt.
    pub(super) arn: Option<String>,
    /// What the key service said of it.
    pub(super) proof: Option<Proof>,
}

/// What classes are made of; each thing is made once.
pub(super) struct Sources<'a> {
    config: &'a Config,
    metrics: &'a Metrics,
    aws: Option<aws_config::SdkConfig>,
    keyring: Option<Arc<Keyring>>,
    pub(super) block: u64,
    folders: HashMap<PathBuf, Arc<dyn Store>>,
    catalog: Option<&'a Arc<Catalog>>,
    /// Whether folders are looked at alone, which another may have.
    pub(super) beside: bool,
}

impl<'a> Sources<'a> {
    pub(super) async fn new(
        config: &'a Config,
        metrics: &'a Metrics,
        catalog: Option<&'a Arc<Catalog>>,
    ) -> Result<Self, StartError> {
        let provider = config.keys.as_ref().map(|keys| &keys.provider);
        let region = match provider {
            Some(ProviderConfig::Kms { region, .. }) => region.as_deref(),
            _ => None,
        };
        let wanted = matches!(provider, Some(ProviderConfig::Kms { .. }))
            || config.classes.iter().any(|class| matches!(class.place, Place::Bucket(_)));
        let aws = if wanted { Some(aws::load(region).await.map_err(StartError::of("aws"))?) } else { None };
        let (block, folders) = (SERVER_BLOCK, HashMap::new());
        Ok(Self { config, metrics, aws, keyring: None, block, folders, catalog, beside: false })
    }

    /// The class's keys.
    pub(super) async fn keys(&mut self, class: &Class) -> Result<SourcedKeys, StartError> {
        let part = format!("class `{}`", class.name);
        let missing = || StartError::new(&part, "there are no [keys]");
        let keys = self.config.keys.as_ref().ok_or_else(missing)?;
        match &keys.provider {
            ProviderConfig::Local { keyring } => {
                let ring = match &self.keyring {
                    Some(ring) => Arc::clone(ring),
                    None => Arc::new(Keyring::load(keyring, self.block).map_err(StartError::of("keys"))?),
                };
                self.keyring = Some(Arc::clone(&ring));
                let view = ring.view(class.write_key.as_deref(), &class.recipients, class.read_keys.as_deref());
                let provider = Arc::new(view.map_err(StartError::of(&part))?);
                Ok(SourcedKeys { provider, arn: None, proof: None })
            }
            ProviderConfig::Kms { endpoint, .. } => {
                let (Some(aws), Some(key)) = (&self.aws, &class.kms_key) else { return Err(missing()) };
                let own = || if is_key_arn(key) { vec![key.clone()] } else { vec![] };
                let read = class.read_keys.clone().unwrap_or_else(own);
                let arns = std::iter::once(key).chain(&class.recipients).chain(&read).map(String::as_str);
                let regions = kms::Regions::new(aws, endpoint.as_deref(), arns);
                let keys =
                    |regions, read| KmsKeys::new(regions, key, class.recipients.clone(), read, self.metrics.clone());
                let mut keys_now = keys(regions.clone(), read);
                let what = "have a KMS key that can be used";
                let standing = keys_now.describe().await;
                if let Ok(standing) = &standing
                    && !is_key_arn(key)
                    && class.read_keys.is_none()
                    && !standing.arn.is_empty()
                {
                    let known = match self.catalog {
                        Some(catalog) => catalog.resolved(&class.name, &standing.arn).await.map_err(|error| {
                            StartError::new(&part, format!("what {key} has resolved to isn't known: {error}"))
                        })?,
                        None => vec![standing.arn.clone()],
                    };
                    keys_now = keys(regions, known);
                }
                let keys = keys_now;
                let arn = match &standing {
                    Ok(standing) if !standing.arn.is_empty() => standing.arn.clone(),
                    _ if is_key_arn(key) => key.clone(),
                    _ => String::new(),
                };
                let proof = match standing {
                    Err(failure) => Proof::fail(what, failure),
                    Ok(KeyStanding { fault: Some(fault), .. }) => {
                        let mend = "enable it, or name another as `kms_key`";
                        Proof::fail(what, format!("KMS key {key} can't be used: {fault}; {mend}"))
                    }
                    Ok(KeyStanding { arn, .. }) if !keys.reads(&arn) => {
                        Proof::fail(what, format!("{key} is {arn} now, which isn't among `read_keys`: add it there"))
                    }
                    Ok(KeyStanding { arn, .. }) => Proof::ok(what, format!("{key} is {arn}: enabled, for encryption")),
                };
                Ok(SourcedKeys { provider: Arc::new(keys), arn: Some(arn), proof: Some(proof) })
            }
        }
    }

    pub(super) fn store(&mut self, class: &Class, sse_arn: Option<String>) -> Result<Arc<dyn Store>, StartError> {
        let part = format!("class `{}`", class.name);
        match &class.place {
            Place::Directory(folder) => self.folder(folder, &part),
            Place::Bucket(bucket) => {
                let aws = self.aws.as_ref().ok_or_else(|| StartError::new(&part, "AWS isn't configured"))?;
                let settings = settings(bucket, sse_arn);
                Ok(Arc::new(S3Store::new(aws, settings, self.metrics.clone())))
            }
        }
    }

    /// The bucket `name` as it is, for reading alone.
    pub(super) async fn bucket(config: &Config, name: &str, metrics: &Metrics) -> Result<Arc<dyn Store>, StartError> {
        let region = match config.keys.as_ref().map(|keys| &keys.provider) {
            Some(ProviderConfig::Kms { region, .. }) => region.as_deref(),
            _ => None,
        };
        let aws = aws::load(region).await.map_err(StartError::of("aws"))?;
        let settings = s3::Settings { bucket: name.to_owned(), sse: None, versions: false };
        Ok(Arc::new(S3Store::new(&aws, settings, metrics.clone())))
    }

    fn folder(&mut self, folder: &Path, part: &str) -> Result<Arc<dyn Store>, StartError> {
        if let Some(store) = self.folders.get(folder) {
            return Ok(Arc::clone(store));
        }
        let open = if self.beside { FsStore::beside } else { FsStore::open };
        let store: Arc<dyn Store> = Arc::new(open(folder, self.metrics.clone()).map_err(StartError::of(part))?);
        self.folders.insert(folder.to_owned(), Arc::clone(&store));
        Ok(store)
    }
}

/// A class without a KMS key of its own leaves encryption at rest to the bucket.
fn settings(bucket: &Bucket, arn: Option<String>) -> s3::Settings {
    let kind = match bucket.sse {
        Sse::Kms => s3::ServerSideEncryption::AwsKms,
        Sse::KmsDsse => s3::ServerSideEncryption::AwsKmsDsse,
    };
    let sse = arn.map(|arn| s3::Sse { kind, arn, required: bucket.require_sse_kms });
    s3::Settings { bucket: bucket.name.clone(), sse, versions: bucket.delete == Delete::Versions }
}
