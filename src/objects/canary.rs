//! Proving a class before traffic does: a small object of our own goes the whole
//! way, and is removed.

use std::{collections::VecDeque, sync::Arc, task, time::Duration};

use bytes::Bytes;

use super::{Answer, Description, ObjectKey, Objects, Plaintext, Promises, Upload, Wanted, WriteCondition, context_of};
use crate::{
    config::Canary,
    fault::Fault,
    keys::{KeyFailure, KeyStanding},
    message::{Caps, Header, MessageId},
    proof::Proof,
    secret::random_array,
    store::{Attributes, Condition, ETag, Failure, Span, Target},
};

/// Who stores and removes a canary.
const OURS: &str = "sealward";

impl Objects {
    /// Tries everything that the class's `canary` allows: a data key issued and
    /// unwrapped; a canary below `.sealward/` sealed, stored, read raw, opened, refused
    /// a second time and removed. What fails keeps nothing from being tried that
    /// doesn't hang on it.
    pub async fn canary(self: &Arc<Self>) -> Vec<Proof> {
        let of = format!("class `{}`", self.class.name);
        if self.class.canary == Canary::Off {
            return vec![Proof::warn("the canary", "nothing is proved: `canary = \"off\"`").of(of)];
        }
        let mut proofs = Vec::new();
        let full = self.class.canary == Canary::Full;
        let Ok(tag) = random_array::<8>() else {
            return vec![Proof::fail("draw a name", "the system gives no randomness").of(of)];
        };
        let tag = u64::from_be_bytes(tag);
        let key = ObjectKey::reserved(&format!("canary-{tag:016x}"));
        match context_of(&self.class, &key) {
            Ok(context) => proofs.extend(self.keys.prove(&context, full).await),
            Err(error) => proofs.push(Proof::fail("issue a data key", error)),
        }
        proofs.push(match self.probe().await {
            Ok(()) => Proof::ok("reach the store", "what is absent is told to be absent"),
            // A write-only replica may not look; it need not.
            Err(fault) if !full => Proof::warn("reach the store", fault),
            Err(fault) => Proof::fail("reach the store", fault),
        });
        // Without a data key the canary would only say so once more.
        if !proofs.iter().any(|proof| proof.failed() && proof.what == "issue a data key") {
            self.prove_canary(&key, tag, full, &mut proofs).await;
        }
        proofs.into_iter().map(|proof| proof.of(&of)).collect()
    }

    /// What the store says of its own settings; see [`Store::prove`](crate::store::Store::prove).
    pub async fn prove_store(&self) -> Vec<Proof> {
        let proofs = self.store.prove(&self.class.prefix, self.class.canary != Canary::Off).await;
        let of = format!("class `{}`", self.class.name);
        proofs.into_iter().map(|proof| proof.of(&of)).collect()
    }

    /// What the key service says of the class's key; `None` where there is none to ask.
    pub async fn key_standing(&self) -> Option<Result<KeyStanding, KeyFailure>> {
        self.keys.standing().await
    }

    /// Whether the key service came to no answer when it was last asked.
    pub fn keys_away(&self) -> bool {
        self.keys.is_away()
    }

    /// Why the store takes nothing more, where it found that it must not.
    pub fn closed(&self) -> Option<String> {
        self.store.closed()
    }

    /// Undoes uploads of this class left unfinished for so long, and counts them.
    ///
    /// # Errors
    /// Whatever the store says instead.
    pub async fn abort_orphans(&self, older_than: Duration) -> Result<u64, Failure> {
        let aborted = match &self.index {
            // Those that are known to be ours, and no others.
            Some(index) => self.abort_unfinished(index, older_than).await?,
            None => self.store.abort_orphans(&self.class.prefix, older_than).await?,
        };
        self.metrics.orphans.with_label_values(&[&self.class.name]).inc_by(aborted);
        Ok(aborted)
    }

    /// Asks the store whether it is there.
    ///
    /// # Errors
    /// Whatever the store says instead.
    pub async fn probe(&self) -> Result<(), Fault> {
        if let Some(why) = self.store.closed() {
            return Err(super::fault_of(Failure::Denied(why)));
        }
        match self.store.probe(&self.class.prefix).await {
            // Who only writes is refused, and by a store that is there.
            Err(Failure::Denied(_)) if self.class.canary != Canary::Full => Ok(()),
            outcome => outcome.map_err(super::fault_of),
        }
    }

    async fn prove_canary(self: &Arc<Self>, key: &ObjectKey, tag: u64, full: bool, proofs: &mut Vec<Proof>) {
        let text = format!("canary {:016x}", tag.rotate_left(17));
        match self.put(upload(key, &text)).await {
            Ok(receipt) => {
                proofs.push(Proof::ok("seal and store a canary", format!("{} bytes of plaintext", receipt.size)));
            }
            // Also what may have been stored all the same is removed.
            Err(fault) => {
                proofs.push(Proof::fail("seal and store a canary", fault));
                let _ = self.delete(key, &WriteCondition::None, OURS).await;
                return;
            }
        }
        if full {
            self.prove_reading(key, &text, proofs).await;
        }
        proofs.push(match self.delete(key, &WriteCondition::None, OURS).await {
            Ok(()) => Proof::ok("remove it", "removed"),
            // A write-only replica may not remove either; the name says whose it is.
            Err(fault) if !full => Proof::warn("remove it", fault),
            Err(fault) => Proof::fail("remove it", fault),
        });
    }

    async fn prove_reading(self: &Arc<Self>, key: &ObjectKey, text: &str, proofs: &mut Vec<Proof>) {
        let read = "read it raw";
        match self.read_raw(key).await {
            Ok((raw, _)) if raw.windows(text.len()).any(|window| window == text.as_bytes()) => {
                proofs.push(Proof::fail(read, "the stored bytes hold the plaintext"));
            }
            Ok((raw, attributes)) => {
                proofs.push(Proof::ok(read, format!("{} bytes, and no plaintext among them", raw.len())));
                proofs.push(self.prove_conditions(key, raw, attributes).await);
            }
            Err(failure) => proofs.push(Proof::fail(read, failure)),
        }
        proofs.push(match self.open_canary(key).await {
            Ok(opened) if opened == text.as_bytes() => Proof::ok("open it", "the same bytes came back"),
            Ok(_) => Proof::fail("open it", "other bytes came back"),
            Err(fault) => Proof::fail("open it", fault),
        });
    }

    async fn read_raw(&self, key: &ObjectKey) -> Result<(Vec<u8>, Attributes), Failure> {
        let mut reading = self.store.read(&self.name_of(key), Span::Whole, None).await?;
        let mut raw = Vec::new();
        let want = usize::try_from(reading.stat.length).unwrap_or(usize::MAX).min(64 << 10);
        reading.source.fill(&mut raw, want).await?;
        Ok((raw, reading.stat.attributes))
    }

    async fn open_canary(self: &Arc<Self>, key: &ObjectKey) -> Result<Vec<u8>, Fault> {
        let Answer::Whole(mut found) = self.read(key, &Wanted::default()).await? else {
            return Err(Fault::internal("no whole answer"));
        };
        let mut opened = Vec::new();
        while let Some(piece) = std::future::poll_fn(|cx| found.chunks.poll_next(cx)).await {
            opened.extend_from_slice(&piece?);
        }
        Ok(opened)
    }

    /// Past our own look at what stands there: the store itself must refuse a second
    /// write, and one over another object than what stands there.
    async fn prove_conditions(&self, key: &ObjectKey, raw: Vec<u8>, attributes: Attributes) -> Proof {
        let what = "have a second write refused";
        let Some(id) = found_id(&raw) else { return Proof::fail(what, "what was read raw is no message") };
        let length = Some(raw.len() as u64);
        let raw = Bytes::from(raw);
        let other = Condition::Matches(ETag("00000000000000000000000000000000".into()));
        for (condition, header) in [(Condition::Absent, "If-None-Match"), (other, "If-Match")] {
            let (name, attributes) = (self.name_of(key), attributes.clone());
            let target = Target { name, attributes, condition, id, length, tells: false };
            match self.store.put(target, raw.clone().into()).await {
                Err(Failure::Precondition) => {}
                Err(failure) => return Proof::fail(what, failure),
                Ok(_) => {
                    return Proof::fail(what, format!("the store doesn't enforce {header}: use one that does"));
                }
            }
        }
        Proof::ok(what, "the store enforces If-None-Match and If-Match")
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
        by: OURS.into(),
        body: Box::new(Pieces(VecDeque::from([Bytes::copy_from_slice(text.as_bytes())]))),
    }
}

struct Pieces(VecDeque<Bytes>);

impl Plaintext for Pieces {
    fn poll_next(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<Option<Bytes>, Fault>> {
        task::Poll::Ready(Ok(self.0.pop_front()))
    }
}
