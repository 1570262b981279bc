//! The bucket's own settings, and whether an upload in parts can be begun and undone.

use std::sync::Arc;

use aws_sdk_s3::types::{BucketVersioningStatus, ExpirationStatus, ServerSideEncryption};

use super::{Inner, encryption::Answered};
use crate::{
    aws::{Trouble, TroubleKind},
    proof::Proof,
};

/// The lifecycle rule that ends what neither we nor anybody else finished.
const RULE: &str = r#"{"Rules":[{"ID":"abort-unfinished-uploads","Status":"Enabled","Filter":{"Prefix":""},"AbortIncompleteMultipartUpload":{"DaysAfterInitiation":7}}]}"#;

pub(super) async fn prove(store: &Arc<Inner>, prefix: &str, write: bool) -> Vec<Proof> {
    let mut proofs = Vec::new();
    let bucket = store.there().await;
    let there = !bucket.failed();
    proofs.push(bucket);
    if !there {
        return proofs;
    }
    if write {
        Box::pin(store.prove_parts(prefix, &mut proofs)).await;
    }
    let (encryption, access, versioning, lifecycle) =
        tokio::join!(store.encryption(), store.public_access(), store.versioning(), store.lifecycle(prefix));
    proofs.extend([encryption, access, versioning, lifecycle]);
    proofs
}

impl Inner {
    async fn there(&self) -> Proof {
        let (what, name) = ("find its bucket", self.bucket());
        let call = self.client.head_bucket().bucket(name).send();
        match self.timed("head_bucket", call).await {
            Ok(_) => Proof::ok(what, name),
            Err(trouble) if trouble.kind == TroubleKind::NotFound => {
                Proof::fail(what, format!("there is no bucket {name}: create it, or name another as `bucket`"))
            }
            Err(trouble) if trouble.kind == TroubleKind::Denied => Proof::fail(what, trouble),
            Err(trouble) => Proof::fail(what, format!("{trouble}; is it in this region?")),
        }
    }

    /// Begins an upload in parts as every large one is begun, and undoes it.
    async fn prove_parts(&self, prefix: &str, proofs: &mut Vec<Proof>) {
        let name = format!("{prefix}.sealward/probe-parts");
        let (sse, key) = self.asked();
        let call = self
            .client
            .create_multipart_upload()
            .bucket(self.bucket())
            .key(&name)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(key)
            .set_bucket_key_enabled(self.bucket_key())
            .send();
        let begun = "begin an upload in parts";
        let answer = match self.timed("begin", call).await {
            Ok(answer) => answer,
            Err(trouble) => return proofs.push(Proof::fail(begun, trouble)),
        };
        let Some(id) = answer.upload_id() else {
            return proofs.push(Proof::fail(begun, "S3 answered without an upload id"));
        };
        let answered = Answered { kind: answer.server_side_encryption(), key: answer.ssekms_key_id() };
        let kind = answered.kind.map_or("no encryption", ServerSideEncryption::as_str).to_owned();
        proofs.push(match self.judge(&answered) {
            Ok(()) => Proof::ok(begun, format!("S3 answers {kind}")),
            Err(failure) => Proof::fail(begun, failure),
        });
        let call = self.client.list_parts().bucket(self.bucket()).key(&name).upload_id(id).send();
        proofs.push(match self.timed("list_parts", call).await {
            Ok(_) => Proof::ok("list its parts", "none yet"),
            // An abort is then believed without a look at what it left.
            Err(trouble) => Proof::warn("list its parts", trouble),
        });
        let call = self.client.abort_multipart_upload().bucket(self.bucket()).key(&name).upload_id(id).send();
        proofs.push(match self.timed("abort", call).await {
            Ok(_) => Proof::ok("undo it", "aborted"),
            Err(trouble) => Proof::fail("undo it", trouble),
        });
    }

    async fn encryption(&self) -> Proof {
        let what = "the bucket's default encryption";
        let call = self.client.get_bucket_encryption().bucket(self.bucket()).send();
        let answer = match self.timed("bucket_encryption", call).await {
            Ok(answer) => answer,
            Err(trouble) => return unseen(what, &trouble, "set it to SSE-KMS with the class's key"),
        };
        let rules = answer
            .server_side_encryption_configuration()
            .map(aws_sdk_s3::types::ServerSideEncryptionConfiguration::rules)
            .unwrap_or_default();
        let default = rules.iter().find_map(|rule| rule.apply_server_side_encryption_by_default());
        match default.map(|default| (default.sse_algorithm(), default.kms_master_key_id())) {
            Some((kind @ (ServerSideEncryption::AwsKms | ServerSideEncryption::AwsKmsDsse), key)) => {
                Proof::ok(what, format!("{} under {}", kind.as_str(), key.unwrap_or("the account's aws/s3 key")))
            }
            Some((kind, _)) => Proof::warn(
                what,
                format!("{}; sealward asks for its own with each object, others may not", kind.as_str()),
            ),
            None => Proof::warn(what, "none; sealward asks for its own with each object, others may not"),
        }
    }

    async fn public_access(&self) -> Proof {
        let what = "the bucket's public-access block";
        let mend = "block all four kinds (`aws s3api put-public-access-block`)";
        let call = self.client.get_public_access_block().bucket(self.bucket()).send();
        let answer = match self.timed("bucket_public_access", call).await {
            Ok(answer) => answer,
            Err(trouble) => return unseen(what, &trouble, mend),
        };
        let Some(block) = answer.public_access_block_configuration() else { return Proof::warn(what, mend) };
        let all = [
            ("BlockPublicAcls", block.block_public_acls()),
            ("IgnorePublicAcls", block.ignore_public_acls()),
            ("BlockPublicPolicy", block.block_public_policy()),
            ("RestrictPublicBuckets", block.restrict_public_buckets()),
        ];
        let open: Vec<&str> = all.iter().filter(|(_, on)| *on != Some(true)).map(|(name, _)| *name).collect();
        if open.is_empty() {
            Proof::ok(what, "all four kinds are blocked")
        } else {
            Proof::warn(what, format!("{} off: {mend}", open.join(", ")))
        }
    }

    async fn versioning(&self) -> Proof {
        let what = "the bucket's versioning";
        let mend = "turn it on, and what is replaced or removed can be had back";
        let call = self.client.get_bucket_versioning().bucket(self.bucket()).send();
        match self.timed("bucket_versioning", call).await {
            Ok(answer) if answer.status() == Some(&BucketVersioningStatus::Enabled) => {
                let removal =
                    if self.settings.versions { "a removal ends every version" } else { "a removal leaves them" };
                Proof::ok(what, format!("on; {removal}"))
            }
            Ok(_) => Proof::warn(what, format!("off: {mend}")),
            Err(trouble) => unseen(what, &trouble, mend),
        }
    }

    async fn lifecycle(&self, prefix: &str) -> Proof {
        let what = "a lifecycle rule for unfinished uploads";
        let mend = format!("add this one (`aws s3api put-bucket-lifecycle-configuration`): {RULE}");
        let call = self.client.get_bucket_lifecycle_configuration().bucket(self.bucket()).send();
        let answer = match self.timed("bucket_lifecycle", call).await {
            Ok(answer) => answer,
            Err(trouble) => return unseen(what, &trouble, &mend),
        };
        let days = answer.rules().iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled).find_map(|rule| {
            #[expect(deprecated, reason = "older rules have their prefix there")]
            let own = rule.prefix();
            let whole = rule.filter().is_none_or(|filter| filter.tag().is_none() && filter.and().is_none());
            let below = rule.filter().and_then(|filter| filter.prefix()).or(own).unwrap_or_default();
            let covers = whole && prefix.starts_with(below);
            covers.then(|| rule.abort_incomplete_multipart_upload()?.days_after_initiation()).flatten()
        });
        match days {
            Some(days) => Proof::ok(what, format!("aborts them after {days} days")),
            None => Proof::warn(what, format!("none covers the class: {mend}")),
        }
    }
}

/// A setting that isn't there, or that we may not see: neither keeps us from working.
fn unseen(what: &str, trouble: &Trouble, mend: &str) -> Proof {
    if trouble.kind == TroubleKind::NotFound {
        Proof::warn(what, format!("none: {mend}"))
    } else {
        Proof::warn(what, format!("can't be seen: {trouble}"))
    }
}
