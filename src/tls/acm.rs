//! A certificate out of AWS Certificate Manager, exported with its key.
//!
//! ACM renews an exportable certificate only while somebody exports it, and we are
//! that somebody. It is described every few hours, and exported when its serial number
//! is another one; the key crosses the wire under TLS and a passphrase made for that
//! one answer, and is opened in memory alone.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_acm::{
    Client,
    error::ProvideErrorMetadata,
    primitives::Blob,
    types::{CertificateDetail, CertificateExport, CertificateStatus, CertificateType},
};
use aws_smithy_types::timeout::TimeoutConfig;

use super::{
    pkcs8,
    prove::{self, Proved, Reason, Refusal},
    source::{Look, Source},
};
use crate::{
    aws::{SdkError, Trouble, TroubleKind},
    secret::jittered,
};

/// One call with all its tries.
const PATIENCE: Duration = Duration::from_secs(30);

/// One certificate of ACM.
#[derive(Debug)]
pub struct Acm {
    client: Client,
    arn: String,
    refresh: Duration,
    /// The serial number of what was handed over last, as ACM writes it.
    served: Option<String>,
}

impl Acm {
    /// The certificate `arn`, asked for about every `refresh`, in the region of `aws`:
    /// the certificate's own.
    pub fn new(aws: &SdkConfig, arn: &str, refresh: Duration) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(PATIENCE).build();
        let config = aws_sdk_acm::config::Builder::from(aws).timeout_config(timeouts).build();
        Self { client: Client::from_conf(config), arn: arn.to_owned(), refresh, served: None }
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        Refusal { place: self.arn.clone(), reason }
    }

    async fn describe(&self) -> Result<CertificateDetail, Refusal> {
        let call = self.client.describe_certificate().certificate_arn(&self.arn).send();
        let answer = call.await.map_err(|error| self.refusal(away(&error, "acm:DescribeCertificate")))?;
        answer.certificate.ok_or_else(|| self.refusal(Reason::Away("ACM answered without it".into())))
    }

    async fn export(&self) -> Result<Proved, Refusal> {
        let passphrase = pkcs8::passphrase().map_err(|error| self.refusal(Reason::Away(error.to_string())))?;
        let call = self.client.export_certificate().certificate_arn(&self.arn);
        let call = call.passphrase(Blob::new(passphrase.as_bytes())).send();
        let answer = call.await.map_err(|error| self.refusal(away(&error, "acm:ExportCertificate")))?;
        let lacks = |what: &str| self.refusal(Reason::Away(format!("ACM exported it without its {what}")));
        let leaf = answer.certificate().ok_or_else(|| lacks("certificate"))?;
        let sealed = answer.private_key().ok_or_else(|| lacks("key"))?;
        let key = pkcs8::decrypted(sealed, &passphrase).ok_or_else(|| self.refusal(Reason::NotPem))?;
        // The root may be among the chain; clients leave it aside.
        let chain = format!("{}\n{}", leaf.trim_end(), answer.certificate_chain().unwrap_or_default());
        prove::prove(&self.arn, chain.as_bytes(), &self.arn, key.as_bytes())
    }
}

#[async_trait]
impl Source for Acm {
    async fn look(&mut self) -> Result<Look, Refusal> {
        let found = self.describe().await?;
        if let Some(reason) = unfit(&found) {
            return Err(self.refusal(reason));
        }
        let serial = found.serial.unwrap_or_default();
        if self.served.as_ref() == Some(&serial) {
            return Ok(Look::Same);
        }
        let proved = self.export().await?;
        self.served = Some(serial);
        Ok(Look::New(proved))
    }

    async fn due(&mut self) {
        tokio::time::sleep(jittered(self.refresh)).await;
    }
}

/// Why what ACM describes can't be served, whatever an export would bring.
fn unfit(found: &CertificateDetail) -> Option<Reason> {
    let exportable = || found.options().and_then(|options| options.export()) == Some(&CertificateExport::Enabled);
    match found.r#type() {
        Some(CertificateType::Imported) => return Some(Reason::NotExportable("one that was imported")),
        Some(CertificateType::AmazonIssued) if !exportable() => {
            return Some(Reason::NotExportable("a public one without it"));
        }
        _ => {}
    }
    match found.status() {
        None | Some(CertificateStatus::Issued) => None,
        Some(status) => Some(Reason::NotIssued(status.as_str().to_owned())),
    }
}

fn away<E>(error: &SdkError<E>, action: &str) -> Reason
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let trouble = Trouble::of(error);
    if trouble.kind == TroubleKind::Denied {
        return Reason::Away(format!("{}; allow {action}", trouble.detail));
    }
    Reason::Away(trouble.detail)
}

#[cfg(test)]
mod tests {
    use aws_sdk_acm::types::{
        CertificateOptions,
        CertificateStatus::{Issued, PendingValidation, Revoked},
        CertificateType::{AmazonIssued, Imported, Private},
    };

    use super::*;

    #[test]
    fn what_can_be_exported_is_told_before_it_is_tried() {
        let of = |kind: CertificateType, export: Option<CertificateExport>, status: CertificateStatus| {
            let options = CertificateOptions::builder().set_export(export).build();
            let detail = CertificateDetail::builder().r#type(kind).options(options).status(status).build();
            unfit(&detail).map(|reason| reason.to_string())
        };
        assert_eq!(of(Private, None, Issued), None);
        assert_eq!(of(AmazonIssued, Some(CertificateExport::Enabled), Issued), None);
        for (kind, export, status, words) in [
            (AmazonIssued, None, Issued, "Export=ENABLED"),
            (AmazonIssued, Some(CertificateExport::Disabled), Issued, "a public one without it"),
            (Imported, None, Issued, "one that was imported"),
            (Private, None, PendingValidation, "PENDING_VALIDATION"),
            (Private, None, Revoked, "REVOKED"),
        ] {
            let said = of(kind, export, status).expect("refused");
            assert!(said.contains(words), "{said}");
        }
    }
}
