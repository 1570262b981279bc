//! Credentials at hand while they last: to ask for them anew may be to assume a role.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials as _, SharedCredentialsProvider, error::CredentialsError},
};
use tokio::{sync::Mutex, time::Instant};

/// Credentials that say no end are kept so long, and those that do until so long before it.
const KEPT: Duration = Duration::from_secs(300);
const SPARE: Duration = Duration::from_secs(60);
/// What a provider keeps to the end itself isn't asked for with every call meanwhile.
const MOMENT: Duration = Duration::from_secs(20);
const LEAST: Duration = Duration::from_secs(10);
/// How long a provider is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those of one provider.
pub struct KeptCredentials {
    provider: SharedCredentialsProvider,
    kept: ArcSwapOption<(Instant, Credentials)>,
    asking: Mutex<()>,
}

impl KeptCredentials {
    /// Those that `provider` gives.
    pub fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, kept: ArcSwapOption::empty(), asking: Mutex::default() }
    }

    /// Credentials that are good for a while; one asks for new ones, and others wait for that.
    ///
    /// # Errors
    /// The provider's own.
    pub async fn get(&self) -> Result<Credentials, CredentialsError> {
        if let Some(credentials) = self.at_hand() {
            return Ok(credentials);
        }
        let asked = tokio::time::timeout(PATIENCE, async {
            let _asking = self.asking.lock().await;
            if let Some(credentials) = self.at_hand() {
                return Ok(credentials);
            }
            let fresh = self.provider.provide_credentials().await?;
            self.kept.store(Some(Arc::new((Instant::now(), fresh.clone()))));
            Ok(fresh)
        });
        asked.await.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(PATIENCE)))
    }

    /// Those that were `used` were refused: the next are asked for anew.
    pub fn forget(&self, used: &Credentials) {
        let kept = self.kept.load();
        if kept.as_deref().is_some_and(|(_, kept)| kept == used) {
            self.kept.compare_and_swap(&kept, None);
        }
    }

    fn at_hand(&self) -> Option<Credentials> {
        let kept = self.kept.load();
        let (since, credentials) = kept.as_deref()?;
        let (now, age) = (SystemTime::now(), since.elapsed());
        let lasts = credentials
            .expiry()
            .map_or(age < KEPT, |expiry| expiry > now + LEAST && (age < MOMENT || expiry > now + SPARE));
        lasts.then(|| credentials.clone())
    }
}

impl fmt::Debug for KeptCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptCredentials").finish_non_exhaustive()
    }
}
