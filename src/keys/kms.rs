//! AWS KMS as the provider of data keys.
//!
//! `GenerateDataKey` for a fresh one, `Encrypt` for further recipients of the
//! same, `Decrypt` *with* the key's id: only keys that the class lists are ever
//! tried, and the answer must name the key that was asked.

use std::{
    collections::HashMap,
    fmt,
    sync::OnceLock,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_config::{Region, SdkConfig};
use aws_sdk_kms::{
    Client,
    primitives::Blob,
    types::{DataKeySpec, KeyState, KeyUsageType},
};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::request_id::RequestId;
use tracing::Instrument as _;
use zeroize::Zeroizing;

use super::{Generated, KeyFailure, KeyProvider, KeyStanding, breaker::Breaker};
use crate::{
    aws::{Trouble, TroubleKind},
    config::is_key_arn,
    message::{EncryptedDataKey, EncryptionContext},
    metrics::Metrics,
    secret::Key256,
    trace,
};

/// What a data key's provider id is.
const PROVIDER: &[u8] = b"aws-kms";
/// One try of one call.
const ATTEMPT: Duration = Duration::from_secs(3);
/// What a call costs, as KMS's price list had it when this was written.
const DOLLARS: f64 = 0.03 / 10_000.0;
/// One call with all its tries.
const DEADLINE: Duration = Duration::from_secs(10);

/// KMS of each region that keys are in: a key is asked for where it lives.
#[derive(Clone, Debug)]
pub struct Regions {
    home: String,
    /// By region; the home's own is among them.
    clients: HashMap<String, Client>,
}

impl Regions {
    /// KMS of `config`'s own region, and of every other that `arns` name; `endpoint` goes
    /// before the environment's, for the own region alone.
    pub fn new<'a>(config: &SdkConfig, endpoint: Option<&str>, arns: impl IntoIterator<Item = &'a str>) -> Self {
        let home = config.region().map(ToString::to_string).unwrap_or_default();
        let mut clients = HashMap::from([(home.clone(), client(config, endpoint, None))]);
        for region in arns.into_iter().filter_map(region) {
            clients.entry(region.to_owned()).or_insert_with(|| client(config, None, Some(region)));
        }
        Self { home, clients }
    }

    /// KMS where the key `id` lives: its ARN's region, and the own for an alias or an id.
    fn of(&self, id: &str) -> &Client {
        region(id).and_then(|region| self.clients.get(region)).unwrap_or_else(|| self.home())
    }

    fn home(&self) -> &Client {
        &self.clients[&self.home]
    }
}

fn client(config: &SdkConfig, endpoint: Option<&str>, region: Option<&str>) -> Client {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT).operation_timeout(DEADLINE).build();
    let mut config = aws_sdk_kms::config::Builder::from(config).timeout_config(timeouts);
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    if let Some(region) = region {
        config = config.region(Region::new(region.to_owned()));
    }
    Client::from_conf(config.build())
}

/// The region that an ARN names.
fn region(arn: &str) -> Option<&str> {
    arn.starts_with("arn:").then(|| arn.split(':').nth(3))?.filter(|region| !region.is_empty())
}

/// One class's keys in KMS.
pub struct KmsKeys {
    regions: Regions,
    /// The class's key as configured: the metrics' label.
    name: String,
    /// That key's own ARN, once KMS was asked for it.
    arn: OnceLock<String>,
    /// ARNs or aliases that every data key is encrypted to besides.
    recipients: Vec<String>,
    /// ARNs that may open, beside related multi-Region keys.
    read: Vec<String>,
    breaker: Breaker,
    metrics: Metrics,
}

impl KmsKeys {
    /// Keys of a class that seals under `key` and opens under `read` (key ARNs).
    pub fn new(regions: Regions, key: &str, recipients: Vec<String>, read: Vec<String>, metrics: Metrics) -> Self {
        Self {
            regions,
            name: key.to_owned(),
            arn: OnceLock::new(),
            recipients,
            read,
            breaker: Breaker::default(),
            metrics,
        }
    }

    /// Whether what is sealed under the key `arn` could be opened again.
    pub fn reads(&self, arn: &str) -> bool {
        self.readable(arn.as_bytes()).is_some()
    }

    /// Asks KMS for the class's key: its ARN, and whether it can be used.
    ///
    /// # Errors
    /// [`KeyFailure`] when KMS doesn't say.
    pub async fn describe(&self) -> Result<KeyStanding, KeyFailure> {
        let call = self.regions.of(&self.name).describe_key().key_id(&self.name).send();
        let usable = self.metrics.kms_key_usable.with_label_values(&[&self.name]);
        let answer = match self.timed("describe", call).await {
            // There is no such key. What else goes wrong says nothing of it.
            Err(KeyFailure::Broken(detail)) => {
                usable.set(0);
                return Ok(KeyStanding { name: self.name.clone(), arn: String::new(), fault: Some(detail) });
            }
            outcome => outcome?,
        };
        let key = answer.key_metadata.ok_or_else(|| KeyFailure::Broken("DescribeKey answered nothing".into()))?;
        let fault = match (key.key_state.as_ref(), key.key_usage.as_ref()) {
            // A stand-in may say nothing of the usage: a key for anything else would.
            (Some(KeyState::Enabled), None | Some(KeyUsageType::EncryptDecrypt)) => None,
            (Some(KeyState::Enabled), Some(usage)) => {
                Some(format!("its usage is {}, not ENCRYPT_DECRYPT", usage.as_str()))
            }
            (state, _) => Some(format!("its state is {}", state.map_or("unknown", KeyState::as_str))),
        };
        let arn = key.arn.unwrap_or_default();
        self.arn.get_or_init(|| arn.clone());
        usable.set(i64::from(fault.is_none()));
        Ok(KeyStanding { name: self.name.clone(), arn, fault })
    }

    /// The ARN to ask for what the ARN `info` has wrapped, if this class may open that:
    /// the very key, or of a multi-Region key the replica in our own region.
    fn readable(&self, info: &[u8]) -> Option<String> {
        let info = std::str::from_utf8(info).ok()?;
        if !self.read.iter().any(|arn| arn == info || related(arn, info)) {
            return None;
        }
        let parts: Vec<&str> = info.splitn(6, ':').collect();
        match parts[..] {
            [arn, partition, service, _, account, key] if key.starts_with("key/mrk-") => {
                Some(format!("{arn}:{partition}:{service}:{}:{account}:{key}", self.regions.home))
            }
            _ => Some(info.to_owned()),
        }
    }

    async fn timed<T, E>(
        &self,
        operation: &str,
        call: impl Future<Output = Result<T, crate::aws::SdkError<E>>>,
    ) -> Result<T, KeyFailure>
    where
        T: RequestId,
        E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
    {
        if !self.breaker.admits() {
            self.count(operation, "skipped");
            return Err(KeyFailure::Unavailable("KMS was away a moment ago".into()));
        }
        let (begun, span) = (Instant::now(), trace::aws("KMS", method(operation)));
        let outcome = call.instrument(span.clone()).await.map_err(|error| Trouble::of(&error));
        self.metrics.kms_cost.with_label_values(&[&self.name]).inc_by(DOLLARS);
        self.metrics.kms_seconds.with_label_values(&[operation, &self.name]).observe(begun.elapsed().as_secs_f64());
        let (label, failure) = match outcome {
            Ok(answer) => {
                trace::answered(&span, answer.request_id(), None);
                self.breaker.answered();
                self.count(operation, "ok");
                return Ok(answer);
            }
            Err(mut trouble) => {
                trouble.note(&span);
                if trouble.kind == TroubleKind::Denied {
                    trouble.detail = format!("{}; allow kms:{} on {}", trouble.detail, method(operation), self.name);
                }
                // A look at the key is made again and again.
                judge(&if operation == "describe" { trouble } else { trouble.with_id() })
            }
        };
        match &failure {
            KeyFailure::Unavailable(_) => self.breaker.failed(),
            _ => self.breaker.answered(),
        }
        self.count(operation, label);
        Err(failure)
    }

    fn count(&self, operation: &str, outcome: &str) {
        self.metrics.kms_requests.with_label_values(&[operation, &self.name, outcome]).inc();
    }
}

#[async_trait]
impl KeyProvider for KmsKeys {
    async fn generate(&self, context: &EncryptionContext) -> Result<Generated, KeyFailure> {
        let broken = |what: &str| KeyFailure::Broken(what.to_owned());
        let context = pairs(context);
        let call = self
            .regions
            .of(&self.name)
            .generate_data_key()
            .key_id(&self.name)
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(context.clone()))
            .send();
        let answer = self.timed("generate", call).await?;
        let plaintext = answer.plaintext.map(|blob| Zeroizing::new(blob.into_inner()));
        let plaintext = plaintext.ok_or_else(|| broken("GenerateDataKey answered no key"))?;
        let key = Key256::from_slice(&plaintext).ok_or_else(|| broken("GenerateDataKey answered no 32 bytes"))?;
        let first = wrapped(answer.key_id, answer.ciphertext_blob)?;
        // An alias may have been pointed elsewhere since the start.
        if self.readable(&first.info).is_none() {
            return Err(broken("GenerateDataKey used a key that this class may not open: see `read_keys`"));
        }
        let mut encrypted = vec![first];
        for recipient in &self.recipients {
            let call = self
                .regions
                .of(recipient)
                .encrypt()
                .key_id(recipient)
                .plaintext(Blob::new(plaintext.to_vec()))
                .set_encryption_context(Some(context.clone()))
                .send();
            let answer = self.timed("encrypt", call).await?;
            // An alias stands for whatever it points to; an ARN for itself alone.
            if is_key_arn(recipient) && answer.key_id.as_deref() != Some(recipient) {
                return Err(broken("Encrypt used another key than the recipient's"));
            }
            encrypted.push(wrapped(answer.key_id, answer.ciphertext_blob)?);
        }
        Ok(Generated { key, encrypted, name: self.name.clone() })
    }

    fn recognise(&self, data_key: &EncryptedDataKey) -> Option<&str> {
        if data_key.provider != PROVIDER {
            return None;
        }
        self.readable(&data_key.info).map(|_| self.name.as_str())
    }

    fn is_current(&self, data_key: &EncryptedDataKey) -> bool {
        data_key.provider == PROVIDER && self.arn.get().is_some_and(|arn| arn.as_bytes() == data_key.info)
    }

    async fn unwrap(&self, data_key: &EncryptedDataKey, context: &EncryptionContext) -> Result<Key256, KeyFailure> {
        let refused = |what: &str| KeyFailure::Refused(what.to_owned());
        let arn = self.readable(&data_key.info).ok_or_else(|| refused("not a key that this class may open"))?;
        let call = self
            .regions
            .of(&arn)
            .decrypt()
            .key_id(&arn)
            .ciphertext_blob(Blob::new(data_key.ciphertext.clone()))
            .set_encryption_context(Some(pairs(context)))
            .send();
        let answer = self.timed("decrypt", call).await?;
        let plaintext = answer.plaintext.map(|blob| Zeroizing::new(blob.into_inner()));
        if answer.key_id.as_deref() != Some(arn.as_str()) {
            return Err(refused("KMS opened it under another key than was asked for"));
        }
        plaintext
            .and_then(|plaintext| Key256::from_slice(&plaintext))
            .ok_or_else(|| refused("the data key isn't 32 bytes"))
    }

    async fn standing(&self) -> Option<Result<KeyStanding, KeyFailure>> {
        let mut standing = self.describe().await;
        if let Ok(standing) = &mut standing
            && standing.fault.is_none()
            && !self.reads(&standing.arn)
        {
            standing.fault = Some(format!("it is {} now, which isn't among `read_keys`", standing.arn));
        }
        Some(standing)
    }

    fn is_away(&self) -> bool {
        self.breaker.is_away()
    }
}

impl fmt::Debug for KmsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsKeys").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What KMS, IAM and the key's policy call `operation`.
fn method(operation: &str) -> &'static str {
    match operation {
        "generate" => "GenerateDataKey",
        "encrypt" => "Encrypt",
        "describe" => "DescribeKey",
        _ => "Decrypt",
    }
}

/// Whether two ARNs are replicas of one multi-Region key: alike but for the region.
fn related(one: &str, other: &str) -> bool {
    let parts = |arn: &str| -> Option<(String, String)> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let [arn, partition, service, _region, account, resource] = parts[..] else { return None };
        resource
            .starts_with("key/mrk-")
            .then(|| (format!("{arn}:{partition}:{service}:{account}"), resource.to_owned()))
    };
    parts(one).is_some_and(|one| Some(one) == parts(other))
}

fn pairs(context: &EncryptionContext) -> HashMap<String, String> {
    context.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The info is the ARN that KMS returned, never an alias.
fn wrapped(key_id: Option<String>, ciphertext: Option<Blob>) -> Result<EncryptedDataKey, KeyFailure> {
    match (key_id.filter(|arn| is_key_arn(arn)), ciphertext) {
        (Some(arn), Some(blob)) => {
            Ok(EncryptedDataKey { provider: PROVIDER.to_vec(), info: arn.into_bytes(), ciphertext: blob.into_inner() })
        }
        _ => Err(KeyFailure::Broken("KMS answered without a key ARN or a ciphertext".into())),
    }
}

/// The metric's outcome, and what the failure says.
fn judge(trouble: &Trouble) -> (&'static str, KeyFailure) {
    let detail = trouble.detail.clone();
    match (trouble.kind, trouble.code.as_deref()) {
        (TroubleKind::Throttled, _) => ("throttled", KeyFailure::Unavailable(detail)),
        (TroubleKind::Denied, _) => ("denied", KeyFailure::Denied(detail)),
        (_, Some("InvalidCiphertextException" | "IncorrectKeyException")) => ("refused", KeyFailure::Refused(detail)),
        (
            _,
            Some("DisabledException" | "KMSInvalidStateException" | "NotFoundException" | "InvalidKeyUsageException"),
        ) => ("unusable", KeyFailure::Broken(detail)),
        (TroubleKind::Unsent | TroubleKind::Unanswered | TroubleKind::Server, _)
        | (_, Some("DependencyTimeoutException" | "KeyUnavailableException" | "KMSInternalException")) => {
            ("unavailable", KeyFailure::Unavailable(detail))
        }
        // Nothing that the key is to blame for: a request that KMS doesn't take.
        _ => ("error", KeyFailure::Denied(detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234";

    #[test]
    fn replicas_are_kin() {
        assert!(related(ONE, "arn:aws:kms:us-east-1:111122223333:key/mrk-1234"));
        for other in [
            "arn:aws:kms:us-east-1:999922223333:key/mrk-1234",
            "arn:aws:kms:us-east-1:111122223333:key/mrk-9",
            "arn:aws-cn:kms:us-east-1:111122223333:key/mrk-1234",
        ] {
            assert!(!related(ONE, other), "{other}");
        }
        let single = "arn:aws:kms:eu-west-1:111122223333:key/1234";
        assert!(!related(single, "arn:aws:kms:us-east-1:111122223333:key/1234"), "single-Region keys have no kin");
    }
}
