//! The engine beside other writers.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{Report, Rework, Settings, Tally};
use crate::{
    budget::Budget,
    config::{Config, LogObjectKeys},
    fault::Fault,
    keys::{
        DataKeys, Unwrapped,
        local::{COMMAND_BLOCK, Keyring},
    },
    metrics::Metrics,
    objects::{Bounds, Description, ObjectKey, Objects, Plaintext, Promises, Slots, Upload, Wanted, WriteCondition},
    store::{
        self, Condition, ETag, Failure, Page, PartRules, Payload, Reading, Span, Stat, Store, Stored, Target,
        fs::FsStore,
    },
};

/// What another does between the look at an object and the write of it.
type Meanwhile = Box<dyn FnOnce() -> futures_util::future::BoxFuture<'static, ()> + Send>;

/// A store with somebody else before it.
struct Busy {
    store: Arc<dyn Store>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl Busy {
    async fn act(&self) {
        let act = self.meanwhile.lock().expect("not poisoned").take();
        if let Some(act) = act {
            act().await;
        }
    }
}

#[async_trait]
impl Store for Busy {
    fn rules(&self) -> &PartRules {
        self.store.rules()
    }

    async fn put(&self, target: Target, message: Payload) -> Result<Stored, Failure> {
        self.act().await;
        self.store.put(target, message).await
    }

    async fn begin(&self, target: Target) -> Result<Box<dyn store::Upload>, Failure> {
        self.act().await;
        self.store.begin(target).await
    }

    async fn probe(&self, prefix: &str) -> Result<(), Failure> {
        self.store.probe(prefix).await
    }

    async fn stat(&self, name: &str) -> Result<Option<Stat>, Failure> {
        self.store.stat(name).await
    }

    async fn read(&self, name: &str, span: Span, pin: Option<&ETag>) -> Result<Reading, Failure> {
        self.store.read(name, span, pin).await
    }

    async fn delete(&self, name: &str, condition: &Condition) -> Result<(), Failure> {
        self.store.delete(name, condition).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, Failure> {
        self.store.list(prefix, after, limit).await
    }
}

struct Once(Option<Bytes>);

impl Plaintext for Once {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        Poll::Ready(Ok(self.0.take()))
    }
}

/// A folder with two keys, of which the class may seal under either.
struct Place {
    folder: tempfile::TempDir,
    budget: Budget,
}

impl Place {
    fn new() -> (Self, Arc<dyn Store>) {
        let folder = tempfile::tempdir().expect("a folder");
        let keys: Vec<serde_json::Value> = ["one", "two"]
            .into_iter()
            .map(|name| {
                let path = folder.path().join(name);
                Keyring::create(&path, "test", name).expect("a keyring");
                serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("is JSON")
            })
            .collect();
        std::fs::write(folder.path().join("ring"), serde_json::to_vec(&keys).expect("is JSON")).expect("writes");
        let metrics = Metrics::new().expect("registers");
        let store = Arc::new(FsStore::open(&folder.path().join("objects"), metrics).expect("opens"));
        (Self { folder, budget: Budget::new(64 << 20) }, store)
    }

    fn objects(&self, store: Arc<dyn Store>, key: &str) -> Arc<Objects> {
        let config = self.config(key);
        let metrics = Metrics::new().expect("registers");
        let ring = Arc::new(Keyring::load(&self.path("ring"), COMMAND_BLOCK).expect("loads"));
        let view = Arc::new(ring.view(Some(key), &[], None).expect("a view"));
        let cache = config.keys.as_ref().expect("keys").cache;
        let keys = DataKeys::new("records", view, cache, Unwrapped::new(&cache), metrics.clone());
        let bounds = Bounds {
            budget: self.budget.clone(),
            buffer_wait: config.limits.buffer_wait,
            max_part: 8 << 20,
            send_idle: config.limits.send_idle_timeout,
            min_rate: 0,
            uploads: Slots::new(8),
        };
        Arc::new(Objects::new(
            config.class("records").expect("a class").clone(),
            store,
            Arc::new(keys),
            bounds,
            metrics,
        ))
    }

    fn config(&self, key: &str) -> Config {
        let text = format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\ntls = {{ source = {{ files = {{ cert = \"c\", key = \"k\" }} }} }}\n\
             [keys]\nprovider = \"local\"\nkeyring = \"ring\"\n\
             [[class]]\nname = \"records\"\ndirectory = \"objects\"\nwrite_key = \"{key}\"\n\
             [[route]]\npath = \"/\"\nseal = {{ class = \"records\" }}\npublic = true\n"
        );
        Config::parse(&text, "test", self.folder.path()).unwrap_or_else(|faults| panic!("{}", faults.render(false)))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    fn rework(&self, objects: &Arc<Objects>) -> Arc<Rework> {
        let settings = Settings { jobs: 2, rate: None, names: LogObjectKeys::Plain };
        let report: Report = Arc::new(|name, why| panic!("{name}: {why}"));
        let (_, stop) = watch::channel(false);
        Arc::new(Rework::new(Arc::clone(objects), self.budget.clone(), settings, report, stop))
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name, "").expect("a name")
}

async fn put(objects: &Arc<Objects>, name: &str, bytes: Vec<u8>) {
    let upload = Upload {
        key: key(name),
        description: Description::default(),
        condition: WriteCondition::None,
        promises: Promises::default(),
        length: None,
        body: Box::new(Once(Some(bytes.into()))),
        place: None,
        by: "test".into(),
    };
    objects.put(upload).await.expect("is stored");
}

/// What stands there: whether it is under the present key, and its length.
async fn look(objects: &Arc<Objects>, name: &str) -> Option<(bool, u64)> {
    match objects.read(&key(name), &Wanted { head_only: true, ..Wanted::default() }).await {
        Ok(super::Answer::Whole(found)) => Some((found.current, found.length)),
        _ => None,
    }
}

/// In one put and in parts: another's object, or another's removal, stays.
#[tokio::test]
async fn a_concurrent_writer_wins() {
    for length in [100, 3 << 20] {
        let (place, store) = Place::new();
        let theirs = place.objects(Arc::clone(&store), "one");
        put(&theirs, "a", vec![1; length]).await;

        let other = Arc::clone(&theirs);
        let meanwhile: Meanwhile = Box::new(move || Box::pin(async move { put(&other, "a", vec![2; 77]).await }));
        let busy = Arc::new(Busy { store: Arc::clone(&store), meanwhile: Mutex::new(Some(meanwhile)) });
        let ours = place.objects(Arc::clone(&busy) as Arc<dyn Store>, "two");
        let tally = place.rework(&ours).reencrypt(false).await.expect("runs");
        // Theirs stays, and is sealed anew in its turn: nothing is left under the old key.
        assert_eq!(tally, Tally { done: 1, bytes: 77, ..Tally::default() }, "{length}");
        assert_eq!(look(&ours, "a").await, Some((true, 77)), "{length}: theirs stands there");

        put(&theirs, "a", vec![1; length]).await;
        let other = Arc::clone(&theirs);
        let remove = move || -> futures_util::future::BoxFuture<'static, ()> {
            Box::pin(async move { other.delete(&key("a"), &WriteCondition::None, "test").await.expect("is removed") })
        };
        *busy.meanwhile.lock().expect("not poisoned") = Some(Box::new(remove));
        let tally = place.rework(&ours).reencrypt(false).await.expect("runs");
        assert_eq!(tally, Tally { skipped: 1, ..Tally::default() }, "{length}");
        assert_eq!(look(&ours, "a").await, None, "{length}: what was removed doesn't come back");
    }
}

#[tokio::test]
async fn what_is_moved_is_passed_over_by_the_next_run() {
    let (place, store) = Place::new();
    let old = place.objects(Arc::clone(&store), "one");
    for number in 0..12_u8 {
        put(&old, &format!("{number}"), vec![number; 1000]).await;
    }
    let new = place.objects(store, "two");
    let dry = place.rework(&new).reencrypt(true).await.expect("runs");
    assert_eq!(dry, Tally { done: 12, bytes: 12_000, ..Tally::default() });
    let tally = place.rework(&new).reencrypt(false).await.expect("runs");
    assert_eq!(tally, dry);
    let again = place.rework(&new).reencrypt(false).await.expect("runs");
    assert_eq!(again, Tally { skipped: 12, ..Tally::default() });
    assert_eq!(place.budget.in_use(), 0);
}

/// 2 MiB a second: the first piece goes at once, the last waits for all before it.
#[tokio::test(start_paused = true)]
async fn a_rate_is_kept() {
    let pace = super::Pace::new(Some(2 << 20));
    let begun = tokio::time::Instant::now();
    for _ in 0..9 {
        if let Some(sleep) = pace.pass(1 << 20) {
            sleep.await;
        }
    }
    let took = begun.elapsed();
    assert!((4.0..4.1).contains(&took.as_secs_f64()), "{took:?}");
}
