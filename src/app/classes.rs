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
    config::{Bucket, Class, Config, Delete, KeyProvider as ProviderConfig, Place, Sse, is_key_arn},
    keys::{
        DataKeys, KeyProvider, Unwrapped,
        kms::{self, KmsKeys},
        local::{Keyring, SERVER_BLOCK},
    },
    metrics::Metrics,
    objects::{Bounds, Objects},
    store::{
        Store,
        fs::FsStore,
        s3::{self, S3Store},
    },
};

/// The classes by name.
pub type Classes = HashMap<String, Arc<Objects>>;

/// Builds every class: its keys asked for, its store opened.
pub(super) async fn build(config: &Config, bounds: &Bounds, metrics: &Metrics) -> Result<Classes, StartError> {
    let Some(keys) = &config.keys else { return Ok(Classes::new()) };
    let mut sources = Sources::new(config, metrics).await?;
    let unwrapped = Unwrapped::new(&keys.cache);
    let mut classes = Classes::new();
    for class in &config.classes {
        let (provider, sse_arn) = sources.keys(class).await?;
        let store = sources.store(class, sse_arn)?;
        let data_keys = DataKeys::new(&class.name, provider, keys.cache, unwrapped.clone(), metrics.clone());
        let objects = Objects::new(class.clone(), store, Arc::new(data_keys), bounds.clone(), metrics.clone());
        classes.insert(class.name.clone(), Arc::new(objects));
    }
    Ok(classes)
}

/// The keys of one class alone, for the offline commands.
///
/// # Errors
/// [`StartError`] when they can't be had.
pub async fn keys_of(config: &Config, class: &Class, metrics: &Metrics) -> Result<Arc<dyn KeyProvider>, StartError> {
    let mut sources = Sources::new(config, metrics).await?;
    // A command wraps once; it doesn't use a block of the keyring's count up.
    sources.block = crate::keys::local::COMMAND_BLOCK;
    Ok(sources.keys(class).await?.0)
}

/// What classes are made of; each thing is made once.
pub(super) struct Sources<'a> {
    config: &'a Config,
    metrics: &'a Metrics,
    aws: Option<aws_config::SdkConfig>,
    keyring: Option<Arc<Keyring>>,
    pub(super) block: u64,
    folders: HashMap<PathBuf, Arc<dyn Store>>,
}

impl<'a> Sources<'a> {
    pub(super) async fn new(config: &'a Config, metrics: &'a Metrics) -> Result<Self, StartError> {
        let provider = config.keys.as_ref().map(|keys| &keys.provider);
        let region = match provider {
            Some(ProviderConfig::Kms { region, .. }) => region.as_deref(),
            _ => None,
        };
        let wanted = matches!(provider, Some(ProviderConfig::Kms { .. }))
            || config.classes.iter().any(|class| matches!(class.place, Place::Bucket(_)));
        let aws = if wanted { Some(aws::load(region).await.map_err(StartError::of("aws"))?) } else { None };
        Ok(Self { config, metrics, aws, keyring: None, block: SERVER_BLOCK, folders: HashMap::new() })
    }

    /// The class's keys, and the ARN of the one that seals where that is KMS's.
    pub(super) async fn keys(&mut self, class: &Class) -> Result<(Arc<dyn KeyProvider>, Option<String>), StartError> {
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
                Ok((Arc::new(view.map_err(StartError::of(&part))?), None))
            }
            ProviderConfig::Kms { endpoint, .. } => {
                let (Some(aws), Some(key)) = (&self.aws, &class.kms_key) else { return Err(missing()) };
                let client = kms::client(aws, endpoint.as_deref());
                let own = || if is_key_arn(key) { vec![key.clone()] } else { vec![] };
                let read = class.read_keys.clone().unwrap_or_else(own);
                let keys = KmsKeys::new(client, key, class.recipients.clone(), read, self.metrics.clone());
                let standing = keys.standing().await.map_err(StartError::of(&part))?;
                if let Some(fault) = standing.fault {
                    return Err(StartError::new(&part, format!("KMS key {key} can't be used: {fault}")));
                }
                if !keys.reads(&standing.arn) {
                    return Err(StartError::new(
                        &part,
                        format!("{key} is {} now, which isn't among `read_keys`: add it there", standing.arn),
                    ));
                }
                Ok((Arc::new(keys), Some(standing.arn)))
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
                Ok(Arc::new(S3Store::new(s3::client(aws), settings, self.metrics.clone())))
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
        Ok(Arc::new(S3Store::new(s3::client(&aws), settings, metrics.clone())))
    }

    fn folder(&mut self, folder: &Path, part: &str) -> Result<Arc<dyn Store>, StartError> {
        if let Some(store) = self.folders.get(folder) {
            return Ok(Arc::clone(store));
        }
        let store: Arc<dyn Store> =
            Arc::new(FsStore::open(folder, self.metrics.clone()).map_err(StartError::of(part))?);
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
