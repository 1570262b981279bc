//! One class by itself, for the commands that go over all of it.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use super::{
    StartError,
    classes::{SourcedKeys, Sources, index},
};
use crate::{
    budget::Budget,
    catalog::Catalog,
    config::{Binding, Class, Config, KeyProvider as ProviderConfig, Place},
    keys::{DataKeys, Unwrapped, local::COMMAND_BLOCK},
    metrics::Metrics,
    objects::{Bounds, Objects, Slots},
    proof::Proof,
    rework::{Folder, Origin, Stored},
};

/// How long a reader waits for a writer: a slow store or a low rate is no stalled client.
const PATIENCE: Duration = Duration::from_secs(600);

/// A class at work, alone.
pub struct Alone {
    /// The class.
    pub objects: Arc<Objects>,
    /// The memory of all that it does.
    pub budget: Budget,
}

/// Where plain objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whence {
    /// `s3://bucket/prefix`
    Bucket {
        /// The bucket.
        bucket: String,
        /// Empty, or with its last slash.
        prefix: String,
    },
    /// A folder of this machine.
    Folder(PathBuf),
}

impl Alone {
    /// The class `name`, which seals under `to_key` where that is given. A folder's
    /// store can't be had while a server has it.
    ///
    /// # Errors
    /// [`StartError`] names the part and the mend.
    pub async fn build(config: &Config, class: &Class, to_key: Option<&str>) -> Result<Self, StartError> {
        let catalog = match config.catalog {
            Some(_) => Some(super::catalog(config).await?),
            None => None,
        };
        Self::of(config, class, to_key, catalog.as_ref(), false).await
    }

    /// The class `name`, whose objects `catalog` is told of.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn indexed(config: &Config, class: &Class, catalog: &Arc<Catalog>) -> Result<Self, StartError> {
        Self::of(config, class, None, Some(catalog), false).await
    }

    /// The class `name`, to look at alone: its server may be there.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn beside(config: &Config, class: &Class) -> Result<Self, StartError> {
        Self::of(config, class, None, None, true).await
    }

    async fn of(
        config: &Config,
        class: &Class,
        to_key: Option<&str>,
        catalog: Option<&Arc<Catalog>>,
        beside: bool,
    ) -> Result<Self, StartError> {
        let part = format!("class `{}`", class.name);
        let metrics = Metrics::new().map_err(StartError::of("metrics"))?;
        let keys = config.keys.as_ref().ok_or_else(|| StartError::new(&part, "there are no [keys]"))?;
        let mut class = class.clone();
        if let Some(key) = to_key {
            match keys.provider {
                ProviderConfig::Local { .. } => class.write_key = Some(key.to_owned()),
                ProviderConfig::Kms { .. } => {
                    if class.read_keys.is_none() && class.kms_key.as_deref() != Some(key) {
                        return Err(StartError::new(
                            &part,
                            "it opens objects of its own key alone: list both keys in `read_keys` first, and \
                             restart its servers",
                        ));
                    }
                    class.kms_key = Some(key.to_owned());
                }
            }
        }
        let budget = Budget::new(config.limits.buffer_memory);
        let bounds = Bounds {
            budget: budget.clone(),
            buffer_wait: config.limits.buffer_wait,
            max_part: config.limits.max_part,
            send_idle: PATIENCE,
            min_rate: 0,
            uploads: Slots::new(config.limits.uploads),
        };
        let mut sources = Sources::new(config, &metrics, catalog).await?;
        sources.beside = beside;
        if class.binding == Binding::MessageId {
            // Many objects share a data key: few wraps are needed.
            sources.block = COMMAND_BLOCK;
        }
        let SourcedKeys { provider, arn, proof } = sources.keys(&class).await?;
        if let Some(proof) = proof.filter(Proof::failed) {
            return Err(StartError::new(format!("class `{}`", class.name), format!("{}: {}", proof.what, proof.words)));
        }
        let store = sources.store(&class, arn)?;
        let data_keys = DataKeys::new(&class.name, provider, keys.cache, Unwrapped::new(&keys.cache), metrics.clone());
        let objects = Objects::new(class, store, Arc::new(data_keys), bounds, metrics).indexed(index(catalog));
        Ok(Self { objects: Arc::new(objects), budget })
    }
}

/// The plain objects at `whence`, for `class` to adopt.
///
/// # Errors
/// [`StartError`] where they can't be had, or lie where the class's own do.
pub async fn origin(config: &Config, class: &Class, whence: &Whence) -> Result<Box<dyn Origin>, StartError> {
    let metrics = Metrics::new().map_err(StartError::of("metrics"))?;
    let within = || StartError::new("--from", "it lies within the class's own place, or holds it: name another");
    match whence {
        Whence::Folder(folder) => {
            let fail = |error| StartError::new("--from", format!("{}: {error}", folder.display()));
            let folder = fs::canonicalize(folder).map_err(fail)?;
            if let Place::Directory(own) = &class.place
                && let Ok(own) = fs::canonicalize(own)
                && (folder.starts_with(&own) || own.starts_with(&folder))
            {
                return Err(within());
            }
            Ok(Box::new(Folder::open(&folder).map_err(fail)?))
        }
        Whence::Bucket { bucket, prefix } => {
            let mut except = None;
            if let Place::Bucket(own) = &class.place
                && own.name == *bucket
            {
                if prefix.starts_with(&class.prefix) {
                    return Err(within());
                }
                except = Some(class.prefix.clone()).filter(|own| own.starts_with(prefix.as_str()));
            }
            let store = Sources::bucket(config, bucket, &metrics).await?;
            Ok(Box::new(Stored::new(store, prefix.clone(), except)))
        }
    }
}
