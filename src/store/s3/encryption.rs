//! What S3 was asked to encrypt with, and whether it says that it did.

use aws_sdk_s3::types::ServerSideEncryption;

use super::{Failure, Head, Inner};

/// What an answer says of its encryption.
pub(super) struct Answered<'a> {
    pub(super) kind: Option<&'a ServerSideEncryption>,
    pub(super) key: Option<&'a str>,
}

/// The same, kept.
pub(super) struct OwnedAnswered {
    kind: Option<ServerSideEncryption>,
    key: Option<String>,
}

impl OwnedAnswered {
    pub(super) fn by_head(head: &Head) -> Self {
        let kind = head.get("x-amz-server-side-encryption").map(ServerSideEncryption::from);
        Self { kind, key: head.get("x-amz-server-side-encryption-aws-kms-key-id").map(str::to_owned) }
    }

    pub(super) fn of(&self) -> Answered<'_> {
        Answered { kind: self.kind.as_ref(), key: self.key.as_deref() }
    }
}

impl Inner {
    /// The kind and key to ask for.
    pub(super) fn asked(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.settings.sse {
            Some(sse) => (Some(sse.kind.clone()), Some(sse.arn.clone())),
            None => (None, None),
        }
    }

    /// Bucket keys spare KMS a call for each object; dual-layer encryption has none.
    pub(super) fn bucket_key(&self) -> Option<bool> {
        let sse = self.settings.sse.as_ref()?;
        (sse.kind == ServerSideEncryption::AwsKms).then_some(true)
    }

    /// Believes an answer only when it names the kind and the key's own ARN.
    ///
    /// # Errors
    /// [`Failure::Denied`], and the class is closed.
    pub(super) fn judge(&self, answered: &Answered<'_>) -> Result<(), Failure> {
        let Some(sse) = self.settings.sse.as_ref().filter(|sse| sse.required) else { return Ok(()) };
        if answered.kind == Some(&sse.kind) && answered.key == Some(sse.arn.as_str()) {
            return Ok(());
        }
        let kind = answered.kind.map_or("nothing", ServerSideEncryption::as_str);
        let key = answered.key.unwrap_or("no key");
        Err(self.close(format!(
            "S3 encrypted with {kind} under {key}, not with {} under {}: look at the bucket's default encryption \
             and policy",
            sse.kind, sse.arn
        )))
    }
}
