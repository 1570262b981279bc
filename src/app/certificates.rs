//! Certificates of listeners: each source as its configuration names it.

use super::{StartError, secrets::Held};
use crate::{
    aws,
    config::CertificateSource,
    tls::{acm::Acm, bundle::Bundle, files::Files, source::Source},
};

/// The source that `config` describes, which has not looked yet.
///
/// # Errors
/// [`StartError`] where AWS isn't configured.
pub(super) async fn source(config: &CertificateSource, held: &Held) -> Result<Box<dyn Source>, StartError> {
    Ok(match config {
        CertificateSource::Files { cert, key, refresh } => Box::new(Files::new(cert, key, *refresh)),
        CertificateSource::Secret { name, fields } => Box::new(Bundle::new(held.lend(name)?, fields.clone())),
        CertificateSource::Acm { arn, region, refresh } => {
            let aws = aws::load(Some(region)).await.map_err(StartError::of("aws"))?;
            Box::new(Acm::new(&aws, arn, *refresh))
        }
    })
}
