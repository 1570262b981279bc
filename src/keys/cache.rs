//! Shares data keys within their bounds, and remembers unwrapped ones for a while.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{self, SHA256};
use moka::{Expiry, sync::Cache};
use prometheus::IntCounter;
use tracing::Instrument as _;

use super::{KeyFailure, KeyProvider, KeyStanding, flight::SingleFlight};
use crate::{
    config::KeyCache as Bounds,
    fault::Tamper,
    message::{Damage, EncryptedDataKey, EncryptionContext},
    metrics::Metrics,
    proof::Proof,
    secret::Key256,
};

/// How long a failed unwrap is believed without another try.
const FAILED_AGE: Duration = Duration::from_secs(5);
/// What a call's task that was lost is said to be.
const NO_END: &str = "the call for a data key came to no end";
/// Contexts whose data keys are shared at once; a class has one, or a few.
const PARTITIONS: usize = 64;
/// How long a denial is remembered; and how many.
const DENIED: Duration = Duration::from_secs(5);
const DENIALS: u64 = 10_000;

/// The data keys of one class.
pub struct DataKeys {
    class: String,
    provider: Arc<dyn KeyProvider>,
    bounds: Bounds,
    issued: Arc<Mutex<HashMap<EncryptionContext, Arc<Issued>>>>,
    issuing: SingleFlight<EncryptionContext, Result<Arc<Issued>, KeyFailure>>,
    unwrapped: Unwrapped,
    /// Those of `data_key_cache` that asked for nothing, since what is derived from the key was there.
    derived: IntCounter,
    metrics: Metrics,
}

/// Unwrapped keys of every class, by (class, provider, info, ciphertext, context):
/// bounded by entries and by time, and wiped when they leave.
#[derive(Clone)]
pub struct Unwrapped {
    entries: Cache<[u8; 32], Outcome>,
    /// Denials: about us and not about the key, so that they are kept a moment only.
    denied: Cache<[u8; 32], KeyFailure>,
    flights: Arc<SingleFlight<[u8; 32], Outcome>>,
}

/// What an unwrap came to, and when.
type Outcome = Result<(Arc<Key256>, Instant), KeyFailure>;

/// A data key that many messages may share.
struct Issued {
    key: Arc<Key256>,
    encrypted: Vec<EncryptedDataKey>,
    name: String,
    born: Instant,
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// The leave to seal one message under a data key.
#[derive(Clone)]
pub struct Lease(Arc<Issued>);

/// A data key that opens a message.
#[derive(Clone)]
pub struct Opened {
    /// The key.
    pub key: Arc<Key256>,
    /// The configured name of the key that wrapped it.
    pub name: String,
    /// When it was unwrapped: what is derived from it is kept no longer than it is.
    pub since: Instant,
}

impl DataKeys {
    /// The data keys of `class`, made by `provider` and shared within `bounds`.
    pub fn new(
        class: &str,
        provider: Arc<dyn KeyProvider>,
        bounds: Bounds,
        unwrapped: Unwrapped,
        metrics: Metrics,
    ) -> Self {
        Self {
            class: class.to_owned(),
            provider,
            bounds,
            issued: Arc::default(),
            issuing: SingleFlight::new(),
            unwrapped,
            derived: metrics.data_key_cache.with_label_values(&["derived_hit"]),
            metrics,
        }
    }

    /// A data key to seal one message under, bound to `context`. A context that
    /// is the object's own (`shared` false) gets a data key of its own.
    ///
    /// # Errors
    /// [`KeyFailure`] from the provider.
    pub async fn issue(&self, context: &EncryptionContext, shared: bool) -> Result<Lease, KeyFailure> {
        let issued = if shared && self.bounds.max_messages > 1 {
            self.issue_shared(context).await?
        } else {
            // No flight is joined and nothing is put up for others: one message, one key.
            self.count("miss");
            let call = self.call(context.clone(), false);
            tokio::spawn(call.in_current_span())
                .await
                .unwrap_or_else(|_| Err(KeyFailure::Unavailable(NO_END.into())))?
        };
        self.metrics.data_key_uses.with_label_values(&[&issued.name, "seal"]).inc();
        Ok(Lease(issued))
    }

    /// The data key of a message, by the first of its wrapped keys that this class
    /// may open and that opens.
    ///
    /// # Errors
    /// [`OpenFailure::Damage`] when none does, [`OpenFailure::Away`] when that
    /// can't be told now.
    pub async fn open(
        &self,
        data_keys: &[EncryptedDataKey],
        context: &EncryptionContext,
    ) -> Result<Opened, OpenFailure> {
        let mut refused = None;
        let mut away = None;
        for data_key in data_keys {
            let Some(name) = self.provider.recognise(data_key) else { continue };
            match self.unwrap(data_key, context).await {
                Ok((key, since)) => {
                    self.metrics.data_key_uses.with_label_values(&[name, "open"]).inc();
                    return Ok(Opened { key, name: name.to_owned(), since });
                }
                Err(KeyFailure::Refused(detail)) => refused = Some(detail),
                Err(failure) => away = Some(failure),
            }
        }
        Err(match (away, refused) {
            (Some(failure), _) => OpenFailure::Away(failure),
            (None, Some(detail)) => OpenFailure::Damage(Damage::new(Tamper::Unwrap, detail)),
            (None, None) => OpenFailure::Damage(Damage::new(
                Tamper::DataKey,
                "none of its data keys is wrapped under a key that this class may open",
            )),
        })
    }

    /// Notes that a message was opened by what was derived from the key called `name` before.
    pub fn used(&self, name: &str) {
        self.derived.inc();
        self.metrics.data_key_uses.with_label_values(&[name, "open"]).inc();
    }

    /// How long an unwrapped key is kept; what is derived from one is kept no longer.
    pub fn unwrapped_age(&self) -> Duration {
        self.bounds.unwrapped_age
    }

    /// Whether the first of a message's wrapped keys is wrapped under the key that
    /// the class seals under now.
    pub fn is_current(&self, data_keys: &[EncryptedDataKey]) -> bool {
        data_keys.first().is_some_and(|data_key| self.provider.is_current(data_key))
    }

    /// A data key of nobody's, past every cache: issued by the provider, and unwrapped
    /// by it again where this class may open it. `open` false leaves the second out.
    pub async fn prove(&self, context: &EncryptionContext, open: bool) -> Vec<Proof> {
        let (issue, unwrap) = ("issue a data key", "unwrap it");
        let fresh = match self.provider.generate(context).await {
            Ok(fresh) => fresh,
            Err(failure) => return vec![Proof::fail(issue, failure)],
        };
        let mut proofs = vec![Proof::ok(issue, format!("under {}", fresh.name))];
        if !open {
            return proofs;
        }
        let mut ours = 0;
        for data_key in &fresh.encrypted {
            let Some(name) = self.provider.recognise(data_key) else { continue };
            ours += 1;
            proofs.push(match self.provider.unwrap(data_key, context).await {
                Ok(key) if key.expose() == fresh.key.expose() => Proof::ok(unwrap, format!("by {name}")),
                Ok(_) => Proof::fail(unwrap, format!("{name} gave another key back")),
                Err(failure) => Proof::fail(unwrap, failure),
            });
        }
        if ours == 0 {
            let words = "none of the keys that it is wrapped under is one this class may open: look at `read_keys`";
            proofs.push(Proof::fail(unwrap, words));
        }
        proofs
    }

    /// Whether the key service came to no answer when it was last asked.
    pub fn is_away(&self) -> bool {
        self.provider.is_away()
    }

    /// What the key service says of the class's key; `None` where there is none to ask.
    pub async fn standing(&self) -> Option<Result<KeyStanding, KeyFailure>> {
        self.provider.standing().await
    }

    /// Forgets what is past its bounds; called now and then, so that a key's time
    /// ends whether or not anybody asks.
    pub fn sweep(&self) {
        let max_age = self.bounds.max_age;
        lock(&self.issued).retain(|_, issued| issued.born.elapsed() < max_age);
        self.unwrapped.entries.run_pending_tasks();
    }

    async fn issue_shared(&self, context: &EncryptionContext) -> Result<Arc<Issued>, KeyFailure> {
        // A key that others used up while we waited for it is asked for anew.
        loop {
            let current = lock(&self.issued).get(context).cloned();
            if let Some(issued) = current
                && issued.take(&self.bounds)
            {
                self.count("hit");
                return Ok(issued);
            }
            self.count("miss");
            let issued = self.generate(context.clone()).await?;
            if issued.take(&self.bounds) {
                return Ok(issued);
            }
        }
    }

    /// A fresh data key; with others who ask for the same context at once, the same.
    async fn generate(&self, context: EncryptionContext) -> Result<Arc<Issued>, KeyFailure> {
        let call = || self.call(context.clone(), true);
        self.issuing.run(context.clone(), call).await.unwrap_or_else(|| Err(KeyFailure::Unavailable(NO_END.into())))
    }

    /// The provider's call, which no waiter's end ends; `put_up` for others to share.
    fn call(
        &self,
        context: EncryptionContext,
        put_up: bool,
    ) -> impl Future<Output = Result<Arc<Issued>, KeyFailure>> + Send + use<> {
        let provider = Arc::clone(&self.provider);
        let board = Arc::clone(&self.issued);
        let unwrapped = self.unwrapped.clone();
        let class = self.class.clone();
        let metrics = self.metrics.clone();
        async move {
            let fresh = provider.generate(&context).await?;
            metrics.data_keys_issued.with_label_values(&[&fresh.name]).inc();
            let issued = Arc::new(Issued {
                key: Arc::new(fresh.key),
                encrypted: fresh.encrypted,
                name: fresh.name,
                born: Instant::now(),
                messages: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
            });
            for data_key in &issued.encrypted {
                let held = Ok((Arc::clone(&issued.key), issued.born));
                unwrapped.entries.insert(id_of(&class, data_key, &context), held);
            }
            if put_up {
                let mut board = lock(&board);
                if board.len() >= PARTITIONS
                    && let Some(oldest) = board.iter().min_by_key(|(_, issued)| issued.born).map(|(c, _)| c.clone())
                {
                    board.remove(&oldest);
                }
                board.insert(context, Arc::clone(&issued));
            }
            Ok(issued)
        }
    }

    async fn unwrap(&self, data_key: &EncryptedDataKey, context: &EncryptionContext) -> Outcome {
        let id = id_of(&self.class, data_key, context);
        if let Some(denied) = self.unwrapped.denied.get(&id) {
            self.count("unwrap_refused");
            return Err(denied);
        }
        if let Some(known) = self.unwrapped.entries.get(&id) {
            self.count(if known.is_ok() { "unwrap_hit" } else { "unwrap_refused" });
            return known;
        }
        self.count("unwrap_miss");
        let call = || {
            let provider = Arc::clone(&self.provider);
            let Unwrapped { entries, denied, .. } = self.unwrapped.clone();
            let (data_key, context) = (data_key.clone(), context.clone());
            async move {
                let outcome = provider.unwrap(&data_key, &context).await.map(|key| (Arc::new(key), Instant::now()));
                // What says nothing of the key itself isn't remembered.
                if matches!(outcome, Ok(_) | Err(KeyFailure::Refused(_))) {
                    entries.insert(id, outcome.clone());
                }
                if let Err(failure @ KeyFailure::Denied(_)) = &outcome {
                    denied.insert(id, failure.clone());
                }
                outcome
            }
        };
        self.unwrapped
            .flights
            .run(id, call)
            .await
            .unwrap_or_else(|| Err(KeyFailure::Unavailable("the call to unwrap came to no end".into())))
    }

    fn count(&self, result: &str) {
        self.metrics.data_key_cache.with_label_values(&[result]).inc();
    }
}

impl fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKeys").field("class", &self.class).finish_non_exhaustive()
    }
}

impl Unwrapped {
    /// A cache within `bounds`.
    pub fn new(bounds: &Bounds) -> Self {
        let entries = Cache::builder()
            .max_capacity(bounds.unwrapped_entries)
            .expire_after(Lives { unwrapped: bounds.unwrapped_age })
            .build();
        let denied = Cache::builder().max_capacity(DENIALS).time_to_live(DENIED).build();
        Self { entries, denied, flights: Arc::new(SingleFlight::new()) }
    }
}

impl Lease {
    /// The data key.
    pub fn key(&self) -> &Key256 {
        &self.0.key
    }

    /// The data key, wrapped, for the header.
    pub fn encrypted(&self) -> &[EncryptedDataKey] {
        &self.0.encrypted
    }

    /// The configured name of the key that wrapped it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Counts `bytes` of plaintext against the data key's bound. A message that
    /// has begun goes on; the bound stops new ones.
    pub fn charge(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// Why no data key opened a message.
#[derive(Clone, Debug)]
pub enum OpenFailure {
    /// The message isn't one of this class's.
    Damage(Damage),
    /// The provider can't be asked now.
    Away(KeyFailure),
}

impl Issued {
    /// Takes the leave for one more message, if the bounds allow it.
    fn take(&self, bounds: &Bounds) -> bool {
        self.born.elapsed() < bounds.max_age
            && self.bytes.load(Ordering::Relaxed) < bounds.max_bytes
            && self.messages.fetch_add(1, Ordering::Relaxed) < bounds.max_messages
    }
}

/// What an unwrapped key lives by.
struct Lives {
    unwrapped: Duration,
}

impl<K> Expiry<K, Outcome> for Lives {
    fn expire_after_create(&self, _: &K, outcome: &Outcome, _: Instant) -> Option<Duration> {
        Some(if outcome.is_ok() { self.unwrapped } else { FAILED_AGE })
    }
}

/// Everything that tells one wrapped key from another, in 32 bytes.
fn id_of(class: &str, data_key: &EncryptedDataKey, context: &EncryptionContext) -> [u8; 32] {
    let mut hash = digest::Context::new(&SHA256);
    let mut field = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(class.as_bytes());
    field(&data_key.provider);
    field(&data_key.info);
    field(&data_key.ciphertext);
    for (key, value) in context {
        field(key.as_bytes());
        field(value.as_bytes());
    }
    let mut id = [0; 32];
    id.copy_from_slice(hash.finish().as_ref());
    id
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
