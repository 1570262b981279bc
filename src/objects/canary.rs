//! Proving a class before traffic does: a small object of our own goes the whole
//! way, and is removed.

use std::{collections::VecDeque, fmt, sync::Arc, task};

use bytes::Bytes;

use super::{Answer, Description, ObjectKey, Objects, Plaintext, Promises, Upload, Wanted, WriteCondition};
use crate::{
    config::Canary,
    fault::Fault,
    message::{Caps, Header, MessageId},
    secret::random_array,
    store::{Condition, Failure, Span, Target},
};

/// What didn't hold of a class.
#[derive(Debug)]
pub struct CanaryError {
    class: String,
    step: &'static str,
    what: String,
}

impl Objects {
    /// Seals, stores, reads raw, opens and removes a canary below `.sealward/`, as
    /// far as the class's `canary` says.
    ///
    /// # Errors
    /// [`CanaryError`], which names the step that failed.
    pub async fn canary(self: &Arc<Self>) -> Result<(), CanaryError> {
        if self.class.canary == Canary::Off {
            return Ok(());
        }
        let failed = |step| move |what: String| CanaryError { class: self.class.name.clone(), step, what };
        let tag: [u8; 8] = random_array().map_err(|error| failed("draw a name")(error.to_string()))?;
        let key = ObjectKey::reserved(&format!("canary-{:016x}", u64::from_be_bytes(tag)));
        let text = format!("canary {:016x}", u64::from_be_bytes(tag).rotate_left(17));

        self.put_canary(&key, &text).await.map_err(|fault| failed("seal and store")(fault.to_string()))?;
        let proof = match self.class.canary {
            Canary::Full => self.prove_canary(&key, &text).await,
            _ => Ok(()),
        };
        let removed = match self.delete(&key, &WriteCondition::None).await {
            Ok(()) => Ok(()),
            // A write-only replica may not remove either; the name says whose it is.
            Err(_) if self.class.canary == Canary::Seal => Ok(()),
            Err(fault) => Err(failed("remove")(fault.to_string())),
        };
        proof.map_err(|(step, what)| failed(step)(what)).and(removed)
    }

    /// Asks the store whether it is there.
    ///
    /// # Errors
    /// Whatever the store says instead.
    pub async fn probe(&self) -> Result<(), Fault> {
        if let Some(why) = self.store.closed() {
            return Err(super::fault_of(Failure::Denied(why.to_owned())));
        }
        self.store.probe().await.map_err(super::fault_of)
    }

    async fn prove_canary(self: &Arc<Self>, key: &ObjectKey, text: &str) -> Result<(), (&'static str, String)> {
        let name = self.name_of(key);
        let reading = self.store.read(&name, Span::Whole, None).await;
        let mut reading = reading.map_err(|failure| ("read raw", failure.to_string()))?;
        let mut raw = Vec::new();
        let want = usize::try_from(reading.stat.length).unwrap_or(usize::MAX).min(64 << 10);
        reading.source.fill(&mut raw, want).await.map_err(|failure| ("read raw", failure.to_string()))?;
        if raw.windows(text.len()).any(|window| window == text.as_bytes()) {
            return Err(("read raw", "the stored bytes hold the plaintext".into()));
        }
        let answer = self.read(key, &Wanted::default()).await.map_err(|fault| ("open", fault.to_string()))?;
        let Answer::Whole(mut found) = answer else { return Err(("open", "no whole answer".into())) };
        let mut opened = Vec::new();
        while let Some(piece) = std::future::poll_fn(|cx| found.chunks.poll_next(cx)).await {
            opened.extend_from_slice(&piece.map_err(|fault| ("open", fault.to_string()))?);
        }
        if opened != text.as_bytes() {
            return Err(("open", "other bytes came back".into()));
        }
        // Past our own look at what stands there: the store itself must refuse.
        let target = Target {
            name,
            attributes: reading.stat.attributes,
            condition: Condition::Absent,
            id: found_id(&raw).ok_or(("read raw", "no message".to_owned()))?,
            length: Some(raw.len() as u64),
        };
        match self.store.put(target, Bytes::from(raw)).await {
            Err(Failure::Precondition) => Ok(()),
            Err(failure) => Err(("refuse a second write", failure.to_string())),
            Ok(_) => Err(("refuse a second write", "the store doesn't enforce If-None-Match".into())),
        }
    }

    async fn put_canary(self: &Arc<Self>, key: &ObjectKey, text: &str) -> Result<(), Fault> {
        self.put(upload(key, text)).await.map(|_| ())
    }
}

fn found_id(raw: &[u8]) -> Option<MessageId> {
    Header::parse(raw, &Caps::default()).ok().flatten().map(|header| *header.id())
}

fn upload(key: &ObjectKey, text: &str) -> Upload {
    Upload {
        key: key.clone(),
        description: Description::default(),
        condition: WriteCondition::None,
        promises: Promises::default(),
        length: Some(text.len() as u64),
        place: None,
        body: Box::new(Pieces(VecDeque::from([Bytes::copy_from_slice(text.as_bytes())]))),
    }
}

struct Pieces(VecDeque<Bytes>);

impl Plaintext for Pieces {
    fn poll_next(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<Option<Bytes>, Fault>> {
        task::Poll::Ready(Ok(self.0.pop_front()))
    }
}

impl fmt::Display for CanaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class `{}`: the canary failed to {}: {}", self.class, self.step, self.what)
    }
}

impl std::error::Error for CanaryError {}
