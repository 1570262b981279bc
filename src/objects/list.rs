//! What a class holds, with plaintext sizes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::{ObjectKey, Objects, description::hinted_layout, fault_of};
use crate::{
    fault::Fault,
    index::{Known, Recent},
    store::Item,
};

/// How long an index is waited for; the store knows, too.
const KNOWN: Duration = Duration::from_secs(1);
/// Look-ups at once for sizes.
const LOOKUPS: usize = 16;

/// One page of names.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// In the order of their names' bytes, or the newest first.
    pub objects: Vec<Entry>,
    /// Where the next page goes on (`after`); absent on the last.
    pub next: Option<String>,
}

/// One object in a list.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Plaintext bytes, computed from the sealed length and not proved; `null`
    /// where the object doesn't say enough of itself.
    pub size: Option<u64>,
    /// Its entity tag, unquoted.
    pub etag: String,
    /// When it became visible, RFC 3339.
    pub modified: String,
}

impl Objects {
    /// Up to `limit` objects whose names begin with `prefix` and sort after `after`.
    ///
    /// # Errors
    /// 503 when the store is away.
    pub async fn list(self: &Arc<Self>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Listing, Fault> {
        let (items, more) = self.page(prefix, after, limit).await?;
        let known = self.known(&items).await;
        // Owned by the stream, so that the whole future stays `Send`.
        let objects: Vec<Entry> = stream::iter(items)
            .map(|item| {
                let objects = Arc::clone(self);
                let known = known.get(&item.name).filter(|known| known.etag == item.etag.0).map(|known| known.size);
                async move { objects.entry(item, known).await }
            })
            .buffered(LOOKUPS)
            .collect()
            .await;
        let next = if more { objects.last().map(|entry| entry.key.clone()) } else { None };
        Ok(Listing { objects, next })
    }

    /// Up to `limit` objects, the newest first, as the index knows them: the store isn't asked.
    ///
    /// # Errors
    /// 400 where there is no index, 503 when it is away.
    pub async fn newest_first(&self, after: Option<&str>, limit: usize) -> Result<Listing, Fault> {
        let Some(index) = &self.index else {
            return Err(Fault::bad_request("only a catalogue knows which are the newest, and there is none here"));
        };
        let Recent { objects, next } = index.recent(&self.class.name, after, limit).await?;
        let entry = |(Known { name, etag, size }, at)| Entry {
            key: name,
            size: Some(size),
            etag,
            modified: super::rfc3339(at),
        };
        Ok(Listing { objects: objects.into_iter().map(entry).collect(), next })
    }

    /// Up to `limit` names that sort after `after`, and whether more follow: a list
    /// that asks for nothing else.
    ///
    /// # Errors
    /// 503 when the store is away.
    pub async fn names(&self, after: Option<&ObjectKey>, limit: usize) -> Result<(Vec<ObjectKey>, bool), Fault> {
        let (items, more) = self.page("", after.map(ObjectKey::as_str), limit).await?;
        let key = |item: &Item| item.name.strip_prefix(&self.class.prefix).map(ObjectKey::listed);
        Ok((items.iter().filter_map(key).collect(), more))
    }

    async fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<(Vec<Item>, bool), Fault> {
        let ours = format!("{}.sealward/", self.class.prefix);
        let full = format!("{}{prefix}", self.class.prefix);
        let mut after = after.map(|after| format!("{}{after}", self.class.prefix));
        let mut items = Vec::new();
        let mut more = true;
        // A page may hold names of ours, which are left out: go on behind them.
        while more && items.len() < limit {
            let page = self.store.list(&full, after.as_deref(), limit - items.len()).await.map_err(fault_of)?;
            more = page.more && !page.items.is_empty();
            after = page.items.last().map(|item| item.name.clone());
            items.extend(page.items.into_iter().filter(|item| !item.name.starts_with(&ours)));
        }
        Ok((items, more))
    }

    /// What the index knows of `items`, by their names in the store. A list without it takes
    /// longer, and is as good.
    async fn known(&self, items: &[Item]) -> HashMap<String, Known> {
        let Some(index) = &self.index else { return HashMap::new() };
        let names: Vec<&str> = items.iter().filter_map(|item| item.name.strip_prefix(&self.class.prefix)).collect();
        let known = tokio::time::timeout(KNOWN, index.known(&self.class.name, &names)).await;
        let known = known.unwrap_or_else(|_| Ok(Vec::new())).unwrap_or_default();
        known.into_iter().map(|known| (format!("{}{}", self.class.prefix, known.name), known)).collect()
    }

    async fn entry(&self, item: Item, known: Option<u64>) -> Entry {
        let verified = || self.verified.find(&item.name).filter(|verified| verified.stat.etag == item.etag);
        let size = match known.or_else(|| verified().map(|verified| verified.extent.plaintext_length())) {
            Some(size) => Some(size),
            None => self.computed_size(&item).await,
        };
        let key = item.name.strip_prefix(&self.class.prefix).unwrap_or(&item.name);
        Entry {
            key: ObjectKey::listed(key).as_str().to_owned(),
            size,
            etag: item.etag.0,
            modified: super::rfc3339(item.modified),
        }
    }

    /// A list is worth more than one size in it: what can't be learnt is unknown.
    async fn computed_size(&self, item: &Item) -> Option<u64> {
        let stat = self.store.stat(&item.name).await.ok()??;
        let extent = hinted_layout(&stat.attributes)?.extent(stat.length).ok()?;
        Some(extent.plaintext_length())
    }
}
