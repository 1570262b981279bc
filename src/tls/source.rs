//! Keeps a slot true to where its certificate comes from, whatever that is.
//!
//! There is one way to publish: a source looks, proves what it finds, and hands it
//! over whole; [`Watch`] serves it from the next handshake on. On any failure the old
//! one serves on, and log and metric say why, once for each fault.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    CertificateSlot,
    prove::{Proved, Refusal},
};
use crate::metrics::Metrics;

/// Where a certificate comes from; it knows what it has handed over last.
#[async_trait]
pub trait Source: Send + Sync {
    /// Looks, and proves what is new.
    ///
    /// # Errors
    /// [`Refusal`]: what is there can't be had, or can't be served.
    async fn look(&mut self) -> Result<Look, Refusal>;

    /// Whether it may have nothing at first, and be served without until it has.
    fn may_begin_empty(&self) -> bool {
        false
    }

    /// Resolves when it is time for the next look.
    async fn due(&mut self);
}

/// What a look came to.
#[derive(Debug)]
pub enum Look {
    /// What was handed over last is still what is there.
    Same,
    /// Something is there, and may be half-way through being replaced.
    Waiting,
    /// Another pair, proved.
    New(Proved),
}

/// Publishes what a source finds. Made by [`open`].
pub struct Watch {
    slot: Arc<CertificateSlot>,
    source: Box<dyn Source>,
    metrics: Metrics,
    refused: Option<Refusal>,
}

/// Has `source` look for the first time, and publishes what it finds in a new slot called `name`.
///
/// # Errors
/// [`Refusal`]: without a first certificate there is nothing to serve.
pub async fn open(
    name: &str,
    mut source: Box<dyn Source>,
    metrics: Metrics,
) -> Result<(Arc<CertificateSlot>, Watch), Refusal> {
    let proved = first(source.as_mut()).await?;
    let slot = Arc::new(CertificateSlot::new(name, proved.as_ref()));
    let watch = Watch { slot: Arc::clone(&slot), source, metrics, refused: None };
    match &proved {
        Some(proved) => watch.tell(proved),
        None => tracing::warn!(certificate = name, "there is no certificate yet: handshakes fail until there is"),
    }
    Ok((slot, watch))
}

/// What `source` has now, published nowhere; `None` where it may begin without.
///
/// # Errors
/// [`Refusal`], as [`open`]'s.
pub async fn first(source: &mut dyn Source) -> Result<Option<Proved>, Refusal> {
    match source.look().await? {
        Look::New(proved) => Ok(Some(proved)),
        Look::Same | Look::Waiting if source.may_begin_empty() => Ok(None),
        // A source that has handed nothing over yet has nothing to wait for.
        Look::Same | Look::Waiting => Err(Refusal::nothing()),
    }
}

impl Watch {
    /// Looks again and again, and at once whenever `reload` changes (SIGHUP). Never
    /// ends by itself; drop or abort it. The old pair is served until a new one is believed.
    pub async fn run(mut self, mut reload: watch::Receiver<u64>) {
        let mut reloads = true;
        loop {
            tokio::select! {
                () = self.source.due() => {}
                changed = reload.changed(), if reloads => {
                    // Nobody is left to ask: the clock goes on alone.
                    reloads = changed.is_ok();
                    if !reloads {
                        continue;
                    }
                    // Who asks is told again.
                    self.refused = None;
                }
            }
            self.look().await;
        }
    }

    /// One look.
    pub(super) async fn look(&mut self) {
        match self.source.look().await {
            Ok(Look::Waiting) => {}
            Ok(Look::Same) => self.refused = None,
            Ok(Look::New(proved)) => {
                self.slot.publish(&proved);
                self.tell(&proved);
                self.refused = None;
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        if self.refused.as_ref() == Some(&refusal) {
            return;
        }
        self.metrics.certificate_loads.with_label_values(&[self.slot.name(), "refused"]).inc();
        tracing::warn!(
            certificate = self.slot.name(),
            "new certificate refused, {}: {refusal}",
            if self.slot.current().is_some() { "the old one serves on" } else { "and there is none yet" }
        );
        self.refused = Some(refusal);
    }

    fn tell(&self, proved: &Proved) {
        let name = self.slot.name();
        self.metrics.certificate_expiry.with_label_values(&[name]).set(proved.not_after);
        self.metrics.certificate_chain.with_label_values(&[name]).set(i64::from(proved.warnings.is_empty()));
        self.metrics.certificate_loads.with_label_values(&[name, "published"]).inc();
        tracing::info!(certificate = name, serial = proved.serial, names = ?proved.names, "certificate published");
        for warning in &proved.warnings {
            tracing::warn!(certificate = name, "{warning}");
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("slot", &self.slot).finish_non_exhaustive()
    }
}
