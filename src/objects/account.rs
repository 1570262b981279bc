//! What an index is told of objects and asked about them, where a class has one.
//!
//! Canaries are nobody's objects: no index knows them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{ObjectKey, Objects, WriteCondition, fault_of, verified::header_bytes};
use crate::{
    fault::{Fault, Kind, Tamper},
    index::{Index, Newest, Record, State},
    keys::Lease,
    message::{Caps, EncryptedDataKey, Header, MessageId},
    secret::random_array,
    store::{Condition, Failure, Reading, Span, Stat, Stored},
    trace::{self, hop},
};

/// How often what others change meanwhile is looked at again.
const TRIES: u32 = 8;
/// How long a message may be pending before it is looked at whether it is there: longer than any
/// store takes to put parts together.
const PENDING: Duration = Duration::from_secs(3600);
/// What of a caller's name is written down; characters.
const CALLER: usize = 256;
/// Who stored what a rebuild has found.
const UNKNOWN: &str = "rebuild";
/// What EDKs of KMS say of who wrapped them.
const KMS: &[u8] = b"aws-kms";

/// What stood under a name before a write.
pub(super) struct Before {
    pub(super) condition: Condition,
    /// Whether something stood there, where the store's answer to the write won't say.
    pub(super) replaces: Option<bool>,
    /// Whether it is for the store to say.
    pub(super) tells: bool,
    /// Whose place the message takes, where that is to be written down.
    pub(super) message: Option<String>,
}

impl Objects {
    /// Has `index` told and asked.
    #[must_use]
    pub fn indexed(mut self, index: Option<Arc<dyn Index>>) -> Self {
        self.index = index;
        self
    }

    /// Who is told of the object `key`.
    pub(super) fn index(&self, key: &ObjectKey) -> Option<&Arc<dyn Index>> {
        self.index.as_ref().filter(|_| !key.is_reserved())
    }

    /// Who says which message of `key` is the newest, where only that is served.
    pub(super) fn judge(&self, key: &ObjectKey) -> Option<&Arc<dyn Index>> {
        self.index(key).filter(|_| self.class.fresh)
    }

    /// Whether a write of `key` could be written down now.
    pub(super) fn writable(&self, key: &ObjectKey) -> Result<(), Fault> {
        self.index(key).map_or(Ok(()), |index| index.ready(self.class.fresh))
    }

    /// Which messages of `key` may be served; none asked where all may.
    pub(super) async fn newest(&self, key: &ObjectKey) -> Result<Option<Newest>, Fault> {
        match self.judge(key) {
            Some(index) => index.newest(&self.class.name, key.as_str()).await.map(Some),
            None => Ok(None),
        }
    }

    /// What stands under a name of a class whose freshness is enforced, as a write finds it; and
    /// the condition by which nothing else comes between.
    pub(super) async fn before_fresh(
        &self,
        index: &Arc<dyn Index>,
        key: &ObjectKey,
        condition: &WriteCondition,
    ) -> Result<Before, Fault> {
        let mut seen = None;
        for _ in 0..TRIES {
            let newest = index.newest(&self.class.name, key.as_str()).await?;
            let Some((stat, message)) = self.standing(&self.name_of(key)).await? else {
                return match condition {
                    WriteCondition::None | WriteCondition::Absent => {
                        Ok(Before { condition: Condition::Absent, replaces: Some(false), tells: false, message: None })
                    }
                    WriteCondition::Present | WriteCondition::OneOf(_) => Err(fault_of(Failure::Precondition)),
                };
            };
            if !newest.allows(Some(&message)) {
                if seen.as_ref() == Some(&message) {
                    // It stood there before the catalogue's answer, and stands there after it.
                    let fault = Fault::stale("what stands there is not the newest that the catalogue knows");
                    self.note(&fault);
                    return Err(fault);
                }
                seen = Some(message);
                continue;
            }
            if !fits(condition, &stat) {
                return Err(fault_of(Failure::Precondition));
            }
            let condition = Condition::Matches(stat.etag);
            return Ok(Before { condition, replaces: Some(true), tells: false, message: Some(message) });
        }
        Err(fault_of(Failure::Conflict))
    }

    /// The id of the message that stands under `key`, as it says itself.
    ///
    /// # Errors
    /// Whatever the store says instead; 502 for what is no message.
    pub async fn standing_id(&self, key: &ObjectKey) -> Result<Option<String>, Fault> {
        Ok(self.standing(&self.name_of(key)).await?.map(|(_, id)| id))
    }

    /// What stands under `name`, and the id of its message.
    async fn standing(&self, name: &str) -> Result<Option<(Stat, String)>, Fault> {
        let span = Span::Part { start: 0, length: self.guess() as u64 };
        let (stat, mut source) = match self.store.read(name, span, None).await {
            Ok(Reading { stat, source }) => (stat, source),
            Err(Failure::NotFound) => return Ok(None),
            Err(failure) => return Err(fault_of(failure)),
        };
        let mut head = Vec::new();
        source.fill(&mut head, self.guess()).await.map_err(fault_of)?;
        let want = header_bytes(&stat);
        if want > head.len() as u64 {
            let span = Span::Part { start: 0, length: want };
            let mut reading = self.store.read(name, span, Some(&stat.etag)).await.map_err(fault_of)?;
            head.clear();
            let want = usize::try_from(want).unwrap_or(usize::MAX);
            reading.source.fill(&mut head, want).await.map_err(fault_of)?;
        }
        let header = Header::parse(&head, &Caps::default()).ok().flatten();
        let header = header.ok_or_else(|| Fault::damaged(Tamper::Foreign, "what stands there is no message"))?;
        Ok(Some((stat, header.id().to_string())))
    }

    /// Writes down that `stored` is there.
    pub(super) async fn account(
        &self,
        index: &Arc<dyn Index>,
        mut record: Record,
        stored: &Stored,
    ) -> Result<(), Fault> {
        stored.etag.0.clone_into(&mut record.etag);
        record.version_id.clone_from(&stored.version);
        if !self.class.fresh {
            return index.write(record).await;
        }
        // The store took it in place of what it found, and of nothing else: what came after it says
        // that of this one, and is left as it is.
        if index.settle(record.clone()).await? {
            return Ok(());
        }
        let name = format!("{}{}", self.class.prefix, record.name);
        match self.store.stat(&name).await {
            // Somebody has taken it for lost, and here it is.
            Ok(Some(stat)) if stat.etag == stored.etag => {
                let Record { class, name, message_id, .. } = &record;
                index.pending(class, name, message_id, None).await?;
                index.settle(record).await.map(drop)
            }
            // One that came after it was faster.
            Ok(_) => Ok(()),
            Err(failure) => Err(fault_of(failure)),
        }
    }

    /// The record of a message that is to be, as far as it is known before.
    pub(super) fn record(&self, key: &ObjectKey, lease: &Lease, id: &MessageId, by: &str) -> Record {
        let key_name = sealed_under(lease.encrypted(), lease.name());
        let by = by.chars().take(CALLER).collect();
        Record { message_id: id.to_string(), key: key_name, by, ..self.blank(key, State::Stored) }
    }

    /// A record of `key` as of now, with nothing of a message in it.
    fn blank(&self, key: &ObjectKey, state: State) -> Record {
        Record {
            class: self.class.name.clone(),
            vault: self.class.vault.clone(),
            name: key.as_str().to_owned(),
            size: 0,
            etag: String::new(),
            message_id: String::new(),
            version_id: None,
            key: String::new(),
            by: String::new(),
            state,
            at: SystemTime::now(),
        }
    }

    /// Removes the object `key`, on behalf of `by`.
    ///
    /// # Errors
    /// 404 when there is none, 412 when the condition doesn't hold, 503 when it couldn't be
    /// written down.
    pub async fn delete(self: &Arc<Self>, key: &ObjectKey, condition: &WriteCondition, by: &str) -> Result<(), Fault> {
        let (objects, key, condition) = (Arc::clone(self), key.clone(), condition.clone());
        let by = by.chars().take(CALLER).collect();
        // In a task of its own: what is removed is written down, also where the client has left.
        let task = async move { objects.remove(&key, &condition, by).await };
        let task = tokio::spawn(trace::within(hop!("remove"), Fault::is_ours, task));
        task.await.unwrap_or_else(|error| Err(Fault::internal(format!("a removal's task ended: {error}"))))
    }

    async fn remove(&self, key: &ObjectKey, condition: &WriteCondition, by: String) -> Result<(), Fault> {
        self.writable(key)?;
        let name = self.name_of(key);
        let Some(index) = self.index(key) else {
            let condition = self.resolve(&name, condition).await?;
            return self.store.delete(&name, &condition).await.map_err(fault_of);
        };
        let gone = Record { by, ..self.blank(key, State::Removed) };
        if self.class.fresh {
            return self.delete_fresh(index, key, condition, gone).await;
        }
        let condition = self.resolve(&name, condition).await?;
        let removed = self.store.delete(&name, &condition).await;
        let known = match &removed {
            Ok(()) => true,
            // It went before, and that couldn't be written down, perhaps.
            Err(Failure::NotFound) => {
                !index.known(&self.class.name, &[key.as_str()]).await.unwrap_or_default().is_empty()
            }
            Err(_) => false,
        };
        if known {
            index.write(Record { at: SystemTime::now(), ..gone }).await?;
        }
        removed.map_err(fault_of)
    }

    /// Removes what stands there and nothing else, also where that isn't the newest: what is gone
    /// is served to nobody.
    async fn delete_fresh(
        &self,
        index: &Arc<dyn Index>,
        key: &ObjectKey,
        condition: &WriteCondition,
        mut gone: Record,
    ) -> Result<(), Fault> {
        let (class, name) = (self.class.name.as_str(), self.name_of(key));
        for _ in 0..TRIES {
            let newest = index.newest(class, key.as_str()).await?;
            let there = self.standing(&name).await?;
            if there.is_none() && newest.current.is_none() {
                return Err(fault_of(Failure::NotFound));
            }
            // Each removal has a name of its own: one must not speak for another.
            let mark = random_array::<8>().map_err(Fault::internal)?;
            gone.message_id = Newest::removal(u64::from_be_bytes(mark));
            gone.at = SystemTime::now();
            let before = there.as_ref().map(|(_, message)| message).or(newest.current.as_ref());
            if let Some((stat, _)) = &there
                && !fits(condition, stat)
            {
                return Err(fault_of(Failure::Precondition));
            }
            index.pending(class, key.as_str(), &gone.message_id, before.map(String::as_str)).await?;
            let removed = match &there {
                Some((stat, _)) => self.store.delete(&name, &Condition::Matches(stat.etag.clone())).await,
                // It is gone without a word; unless somebody has put one there meanwhile.
                None if self.standing(&name).await?.is_none() => Err(Failure::NotFound),
                None => Err(Failure::Conflict),
            };
            match removed {
                Ok(()) => return index.settle(gone).await.map(drop),
                Err(Failure::NotFound) => {
                    index.settle(gone).await?;
                    return Err(fault_of(Failure::NotFound));
                }
                Err(Failure::Precondition | Failure::Conflict) => {
                    // It was replaced meanwhile: once more.
                    index.forget(class, key.as_str(), &gone.message_id).await;
                }
                // What came of it is looked at later.
                Err(failure) => return Err(fault_of(failure)),
            }
        }
        Err(fault_of(Failure::Conflict))
    }

    /// Looks at a name of which something has been pending for long, and settles it by what stands
    /// there.
    ///
    /// # Errors
    /// 503 while that can't be told.
    pub async fn settle(&self, key: &ObjectKey) -> Result<(), Fault> {
        let Some(index) = self.judge(key) else { return Ok(()) };
        let newest = index.newest(&self.class.name, key.as_str()).await?;
        let there = match self.standing(&self.name_of(key)).await {
            Ok(there) => there,
            // What stands there is none of what is pending.
            Err(fault) if fault.kind() == Kind::Damaged => return self.expire(index, key).await,
            Err(fault) => return Err(fault),
        };
        match there {
            Some((_, standing)) if newest.pending.contains(&standing) => {
                let (record, _) = self.rebuilt(key).await?;
                index.settle(record).await?;
            }
            None => {
                if let Some(mark) = newest.pending.iter().find(|pending| Newest::is_removal(pending)) {
                    index.settle(Record { message_id: mark.clone(), ..self.blank(key, State::Removed) }).await?;
                }
            }
            Some(_) => {}
        }
        self.expire(index, key).await
    }

    async fn expire(&self, index: &Arc<dyn Index>, key: &ObjectKey) -> Result<(), Fault> {
        match SystemTime::now().checked_sub(PENDING) {
            Some(before) => index.expire(&self.class.name, key.as_str(), before).await,
            None => Ok(()),
        }
    }

    /// Writes down what stands under `key` now, in place of what was known of it before `since`;
    /// false where that can't be read as an object of the class.
    ///
    /// # Errors
    /// 503 when it can't be written down, or looked at.
    pub async fn rebuild(&self, key: &ObjectKey, since: SystemTime) -> Result<bool, Fault> {
        let Some(index) = self.index(key) else { return Ok(true) };
        for _ in 0..TRIES {
            let (record, modified) = match self.rebuilt(key).await {
                Ok(found) => found,
                Err(fault) if matches!(fault.kind(), Kind::Damaged | Kind::NotFound) => return Ok(false),
                Err(fault) => return Err(fault),
            };
            if !self.class.fresh {
                index.rewrite(Record { at: modified, ..record }, since).await?;
                return Ok(true);
            }
            let newest = index.newest(&self.class.name, key.as_str()).await?;
            if newest.current.as_ref() == Some(&record.message_id) {
                return Ok(true);
            }
            index.pending(&self.class.name, key.as_str(), &record.message_id, newest.current.as_deref()).await?;
            // What was replaced before it was pending must not come back.
            if self.standing_id(key).await?.as_ref() == Some(&record.message_id) {
                index.settle(record).await?;
                return Ok(true);
            }
            index.forget(&self.class.name, key.as_str(), &record.message_id).await;
        }
        Err(fault_of(Failure::Conflict))
    }

    /// Undoes what has begun so long ago, by what the index says, and isn't over; how many.
    pub(super) async fn abort_unfinished(&self, index: &Arc<dyn Index>, older_than: Duration) -> Result<u64, Failure> {
        let away = |fault: Fault| Failure::Unavailable(fault.to_string());
        let Some(before) = SystemTime::now().checked_sub(older_than) else { return Ok(0) };
        let mut aborted = 0;
        for (name, upload) in index.unfinished(&self.class.name, before).await.map_err(away)? {
            if self.store.abort_upload(&format!("{}{name}", self.class.prefix), &upload).await {
                index.over(&self.class.name, &upload).await;
                aborted += 1;
            }
        }
        Ok(aborted)
    }

    async fn rebuilt(&self, key: &ObjectKey) -> Result<(Record, SystemTime), Fault> {
        let verified = self.glance(key).await?;
        let header = verified.opener.header();
        let record = Record {
            size: verified.extent.plaintext_length(),
            etag: verified.stat.etag.0.clone(),
            message_id: header.id().to_string(),
            key: sealed_under(header.data_keys(), &verified.key_name),
            by: UNKNOWN.to_owned(),
            ..self.blank(key, State::Stored)
        };
        Ok((record, verified.stat.modified))
    }
}

/// The ARN of the KMS key that wrapped one of `data_keys`, or what the configuration calls the key.
fn sealed_under(data_keys: &[EncryptedDataKey], name: &str) -> String {
    let arn = data_keys.iter().find(|data_key| data_key.provider == KMS);
    arn.and_then(|data_key| String::from_utf8(data_key.info.clone()).ok()).unwrap_or_else(|| name.to_owned())
}

/// Whether what stands there is what a client says.
fn fits(condition: &WriteCondition, there: &Stat) -> bool {
    match condition {
        WriteCondition::None | WriteCondition::Present => true,
        WriteCondition::Absent => false,
        WriteCondition::OneOf(tags) => tags.contains(&there.etag),
    }
}
