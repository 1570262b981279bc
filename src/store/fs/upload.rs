//! A message that comes in parts.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use tokio::{sync::Mutex, task::JoinHandle};

use super::{Draft, Failure, Metrics, Stored, hop, observe, publish, timed};
use crate::store::{Payload, Upload};

/// One part may be on its way to the disk while the next is made. Dropped, the
/// temporary file goes with it, or with the part that is still under way.
pub(super) struct FsUpload {
    draft: Draft,
    lock: Arc<Mutex<()>>,
    metrics: Metrics,
    offset: u64,
    flight: Option<JoinHandle<Result<(), Failure>>>,
    failed: Option<Failure>,
}

impl FsUpload {
    /// Nothing is written yet; `lock` is the name's.
    pub(super) fn new(draft: Draft, lock: Arc<Mutex<()>>, metrics: Metrics) -> Self {
        Self { draft, lock, metrics, offset: 0, flight: None, failed: None }
    }

    /// Waits for the part under way. Once one has failed, so does everything after.
    async fn landed(&mut self) -> Result<(), Failure> {
        // The handle stays where it is until it has answered: a caller that
        // gives up waiting must not make the part's outcome disappear.
        if let Some(flight) = &mut self.flight {
            let landed = flight.await;
            self.flight = None;
            let landed =
                landed.unwrap_or_else(|error| Err(Failure::Other(format!("a part's write ended early: {error}"))));
            self.failed = landed.err();
        }
        self.failed.clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Upload for FsUpload {
    async fn part(&mut self, part: Payload) -> Result<(), Failure> {
        let bytes = part.bytes;
        self.landed().await?;
        let (temp, metrics, offset) = (Arc::clone(&self.draft.temp), self.metrics.clone(), self.offset);
        self.offset += bytes.len() as u64;
        let start = Instant::now();
        self.flight = Some(tokio::task::spawn_blocking(move || {
            let written = temp.write(&bytes, offset);
            observe(&metrics, "part", start, written.as_ref().err());
            written
        }));
        Ok(())
    }

    async fn complete(mut self: Box<Self>) -> Result<Stored, Failure> {
        let metrics = self.metrics.clone();
        timed(&metrics, "complete", async move {
            self.landed().await?;
            let Self { draft, lock, .. } = *self;
            publish(lock, move || Ok(draft)).await
        })
        .await
    }

    async fn abort(mut self: Box<Self>) {
        let metrics = self.metrics.clone();
        // Of no interest any more: what the part wrote is removed either way.
        let work = async move {
            let _ = self.landed().await;
            let temp = Arc::clone(&self.draft.temp);
            hop(move || {
                temp.remove();
                Ok(())
            })
            .await
        };
        if let Err(failure) = timed(&metrics, "abort", work).await {
            tracing::warn!(%failure, "an upload's abort ended early");
        }
    }
}
