//! A certificate out of a secret: chain and key as one PEM bundle, or in two fields.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use super::{
    files,
    prove::{self, Reason, Refusal},
    source::{Look, Source},
};
use crate::secret::SecretText;

/// Without news a bundle is looked at again so often: one that wasn't valid yet may be now.
const AGAIN: Duration = Duration::from_secs(60);

/// A secret that is followed, as this room needs it; who has secrets lends it one.
#[async_trait]
pub trait SecretSource: Send + Sync + 'static {
    /// What the configuration calls it.
    fn name(&self) -> &str;

    /// What the current version says, or one field of it.
    ///
    /// # Errors
    /// What it lacks, in words that hold nothing of it.
    fn text(&self, field: Option<&str>) -> Result<SecretText, String>;

    /// The same of the version before, where that is known.
    fn previous(&self, field: Option<&str>) -> Option<SecretText>;

    /// Resolves when there is another version than at the last call.
    async fn changed(&mut self);
}

/// A bundle in a secret.
pub struct Bundle {
    secret: Box<dyn SecretSource>,
    /// The fields of chain and key.
    fields: Option<(String, String)>,
    /// The digest of what was handed over last.
    served: Option<[u8; 32]>,
}

impl Bundle {
    /// The bundle that all of `secret` is, or chain and key in two `fields` of it.
    pub fn new(secret: Box<dyn SecretSource>, fields: Option<(String, String)>) -> Self {
        Self { secret, fields, served: None }
    }

    fn read(&self) -> Result<(SecretText, SecretText), String> {
        Ok(match &self.fields {
            Some((cert, key)) => (self.secret.text(Some(cert))?, self.secret.text(Some(key))?),
            None => {
                let bundle = self.secret.text(None)?;
                (bundle.clone(), bundle)
            }
        })
    }
}

#[async_trait]
impl Source for Bundle {
    async fn look(&mut self) -> Result<Look, Refusal> {
        let place = format!("secret `{}`", self.secret.name());
        let (cert, key) = self.read().map_err(|words| Refusal { place: place.clone(), reason: Reason::Away(words) })?;
        let found = files::digest(&[cert.expose().as_bytes(), key.expose().as_bytes()]);
        if self.served == Some(found) {
            return Ok(Look::Same);
        }
        let proved = prove::prove(&place, cert.expose().as_bytes(), &place, key.expose().as_bytes())?;
        self.served = Some(found);
        Ok(Look::New(proved))
    }

    async fn due(&mut self) {
        let _ = tokio::time::timeout(AGAIN, self.secret.changed()).await;
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("secret", &self.secret.name()).finish_non_exhaustive()
    }
}
