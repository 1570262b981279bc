//! AWS Secrets Manager: whatever bears the stage `AWSCURRENT`.
//!
//! A rotation puts a new version under `AWSPENDING`, tries it, and only then moves
//! `AWSCURRENT` to it: what is pending is never used here. The version that was current
//! before is `AWSPREVIOUS`, which may still be good for a while.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_secretsmanager::{Client, operation::get_secret_value::GetSecretValueOutput};
use aws_smithy_types::timeout::TimeoutConfig;

use super::{Refusal, Source, Version};
use crate::{
    aws::{Trouble, TroubleKind},
    secret::SecretText,
};

/// One call with all its tries.
const PATIENCE: Duration = Duration::from_secs(20);
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// One secret of Secrets Manager.
#[derive(Debug)]
pub struct Manager {
    client: Client,
    id: String,
}

impl Manager {
    /// The secret `id`: a name or an ARN.
    pub fn new(aws: &SdkConfig, id: &str) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(PATIENCE).build();
        let config = aws_sdk_secretsmanager::config::Builder::from(aws).timeout_config(timeouts).build();
        Self { client: Client::from_conf(config), id: id.to_owned() }
    }

    async fn staged(&self, stage: &str) -> Result<GetSecretValueOutput, Trouble> {
        let call = self.client.get_secret_value().secret_id(&self.id).version_stage(stage).send();
        call.await.map_err(|error| Trouble::of(&error))
    }

    fn refusal(&self, what: &str) -> Refusal {
        Refusal::new(&self.id, what)
    }

    fn value(&self, answer: &GetSecretValueOutput) -> Result<SecretText, Refusal> {
        let of_binary = || {
            let binary = answer.secret_binary()?.as_ref();
            std::str::from_utf8(binary).ok().map(str::to_owned)
        };
        let value = answer.secret_string().map(str::to_owned).or_else(of_binary);
        value.map(SecretText::new).ok_or_else(|| self.refusal("holds no text: put it there as a string"))
    }
}

#[async_trait]
impl Source for Manager {
    fn place(&self) -> &str {
        &self.id
    }

    async fn fetch(&self, known: Option<&str>) -> Result<Option<Version>, Refusal> {
        let answer = self.staged(CURRENT).await.map_err(|trouble| match trouble.kind {
            _ if trouble.code.as_deref() == Some("ResourceNotFoundException") => {
                self.refusal("Secrets Manager has no such secret, or none with a current version, in this region")
            }
            TroubleKind::Refused if trouble.code.as_deref() == Some("InvalidRequestException") => {
                Refusal::new(&self.id, format!("{}; a secret that is to be deleted can be restored", trouble.detail))
            }
            _ => Refusal::of(&self.id, &trouble, "secretsmanager:GetSecretValue"),
        })?;
        if !answer.version_stages().iter().any(|stage| stage == CURRENT) {
            return Err(self.refusal("Secrets Manager answered with a version that isn't AWSCURRENT"));
        }
        let id = answer.version_id().unwrap_or_default();
        if id.is_empty() {
            return Err(self.refusal("Secrets Manager answered without a version id"));
        }
        if known == Some(id) {
            return Ok(None);
        }
        let value = self.value(&answer)?;
        // There is none before the first rotation, and that is no fault.
        let previous = match self.staged(PREVIOUS).await {
            Ok(answer) => self.value(&answer).ok(),
            Err(_) => None,
        };
        let since = answer.created_date().and_then(|date| SystemTime::try_from(*date).ok());
        let since = since.unwrap_or_else(SystemTime::now);
        Ok(Some(Version { id: id.to_owned(), value, previous, since }))
    }
}
