//! Certificates from two PEM files that others replace while we serve.
//!
//! The files' content is compared, not their times: Kubernetes swaps a symbolic
//! link, others copy with old times. What changed is read until it stands
//! still, proved, and published whole; what is not believed changes nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::{
    prove::{self, Proved, Reason, Refusal},
    source::{Look, Source},
};
use crate::replace::read;

/// A certificate or key file larger than this, in bytes, is none.
const MAX_FILE: u64 = 1 << 20;
/// How long a changed pair must stand still before it is proved, at most.
const SETTLE: Duration = Duration::from_millis(250);

/// A chain and its key, in files.
#[derive(Debug)]
pub struct Files {
    pair: Paths,
    refresh: Duration,
    served: Option<Digest>,
    doubted: Option<Digest>,
}

impl Files {
    /// The pair in `cert` and `key`, looked at every `refresh`.
    pub fn new(cert: &Path, key: &Path, refresh: Duration) -> Self {
        Self { pair: Paths { cert: cert.to_owned(), key: key.to_owned() }, refresh, served: None, doubted: None }
    }

    async fn read(&self) -> (Result<Content, Refusal>, Digest) {
        let pair = self.pair.clone();
        let read = tokio::task::spawn_blocking(move || pair.read()).await.unwrap_or_else(|_| {
            let reason = Reason::Unreadable("the reading task ended".into());
            Err(Refusal::of(&self.pair.cert, reason))
        });
        let digest = match &read {
            Ok(content) => content.digest(),
            Err(refusal) => digest(&[refusal.to_string().as_bytes()]),
        };
        (read, digest)
    }
}

#[async_trait]
impl Source for Files {
    async fn look(&mut self) -> Result<Look, Refusal> {
        let (first, digest) = self.read().await;
        if self.served == Some(digest) {
            self.doubted = None;
            return Ok(Look::Same);
        }
        // A first pair is there, or nothing is served.
        let replaced = self.served.is_some();
        if replaced && first.is_ok() {
            // A writer may be at it: only what reads the same twice is looked into.
            tokio::time::sleep(SETTLE.min(self.refresh)).await;
            let (_, again) = self.read().await;
            if again != digest {
                return Ok(Look::Waiting);
            }
        }
        match first.and_then(|content| content.prove(&self.pair)) {
            Ok(proved) => {
                self.served = Some(digest);
                self.doubted = None;
                Ok(Look::New(proved))
            }
            // One file after the other is how most tools write: it gets a second look before it is a fault.
            Err(refusal) if replaced && refusal.reason.may_pass() && self.doubted != Some(digest) => {
                self.doubted = Some(digest);
                Ok(Look::Waiting)
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn due(&mut self) {
        tokio::time::sleep(self.refresh).await;
    }
}

#[derive(Clone, Debug)]
struct Paths {
    cert: PathBuf,
    key: PathBuf,
}

struct Content {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

/// SHA-256 of both files.
type Digest = [u8; 32];

impl Paths {
    fn read(&self) -> Result<Content, Refusal> {
        let file = |path: &Path| {
            read(path, MAX_FILE).map_err(|error| Refusal::of(path, Reason::Unreadable(error.to_string())))
        };
        Ok(Content { cert: file(&self.cert)?.to_vec(), key: file(&self.key)? })
    }
}

impl Content {
    fn digest(&self) -> Digest {
        digest(&[&self.cert, &self.key])
    }

    fn prove(&self, pair: &Paths) -> Result<Proved, Refusal> {
        prove::prove(&pair.cert, &self.cert, &pair.key, &self.key)
    }
}

/// SHA-256 of `parts`, each with its length.
pub(super) fn digest(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // Lengths too, so that moving bytes from one file to the other is a change.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use time::OffsetDateTime;

    use super::{
        super::{
            CertificateSlot,
            prove::tests::{made, pair},
            source::{Watch, open},
        },
        *,
    };
    use crate::metrics::Metrics;

    struct Bench {
        dir: tempfile::TempDir,
        metrics: Metrics,
    }

    impl Bench {
        async fn new() -> (Self, Arc<CertificateSlot>, Watch) {
            Self::every(Duration::from_millis(1)).await
        }

        async fn every(refresh: Duration) -> (Self, Arc<CertificateSlot>, Watch) {
            let bench = Self { dir: tempfile::tempdir().expect("a folder"), metrics: Metrics::new().expect("metrics") };
            bench.put(&pair(&["first"]));
            let files = Files::new(&bench.path("cert.pem"), &bench.path("key.pem"), refresh);
            let (slot, watch) = open("t", Box::new(files), bench.metrics.clone()).await.expect("a good pair");
            (bench, slot, watch)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn put(&self, (cert, key): &(String, String)) {
            fs::write(self.path("cert.pem"), cert).expect("written");
            fs::write(self.path("key.pem"), key).expect("written");
        }

        fn loads(&self, outcome: &str) -> u64 {
            self.metrics.certificate_loads.with_label_values(&["t", outcome]).get()
        }
    }

    #[tokio::test]
    async fn a_new_pair_is_published() {
        let (bench, slot, mut watch) = Bench::new().await;
        let before = slot.current().expect("served");
        watch.look().await;
        assert!(Arc::ptr_eq(&before, &slot.current().expect("served")), "nothing changed");
        bench.put(&pair(&["second"]));
        watch.look().await;
        assert!(!Arc::ptr_eq(&before, &slot.current().expect("served")));
        assert_eq!((bench.loads("published"), bench.loads("refused")), (2, 0));
    }

    #[tokio::test]
    async fn a_reload_looks_at_once() {
        let (bench, slot, watch) = Bench::every(Duration::from_secs(3600)).await;
        let (ask, asked) = tokio::sync::watch::channel(0);
        let task = tokio::spawn(watch.run(asked));
        let before = slot.current().expect("served");
        bench.put(&pair(&["second"]));
        ask.send_replace(1);
        while Arc::ptr_eq(&before, &slot.current().expect("served")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        task.abort();
    }

    #[tokio::test]
    async fn bad_pairs_are_refused_once_and_change_nothing() {
        let (bench, slot, mut watch) = Bench::new().await;
        let before = slot.current().expect("served");
        let yesterday = OffsetDateTime::now_utc() - time::Duration::days(1);
        let expired = made(&["a"], |params| params.not_after = yesterday);
        for (count, bad) in [(1, expired), (2, ("garbage".into(), "garbage".into()))] {
            bench.put(&bad);
            for _ in 0..3 {
                watch.look().await;
            }
            assert_eq!(bench.loads("refused"), count);
        }
        fs::remove_file(bench.path("key.pem")).expect("removed");
        for _ in 0..4 {
            watch.look().await;
        }
        assert_eq!(bench.loads("refused"), 3);
        assert!(Arc::ptr_eq(&before, &slot.current().expect("served")));
    }

    #[tokio::test]
    async fn one_file_after_the_other_is_no_fault() {
        let (bench, slot, mut watch) = Bench::new().await;
        let before = slot.current().expect("served");
        let (cert, key) = pair(&["second"]);
        fs::write(bench.path("cert.pem"), cert).expect("written");
        watch.look().await;
        assert!(Arc::ptr_eq(&before, &slot.current().expect("served")));
        fs::write(bench.path("key.pem"), key).expect("written");
        watch.look().await;
        assert!(!Arc::ptr_eq(&before, &slot.current().expect("served")));
        assert_eq!(bench.loads("refused"), 0);

        fs::write(bench.path("key.pem"), pair(&["third"]).1).expect("written");
        for _ in 0..4 {
            watch.look().await;
        }
        assert_eq!(bench.loads("refused"), 1, "a mismatch that stays is a fault, once");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_swapped_link_is_seen() {
        let (bench, slot, mut watch) = Bench::new().await;
        let next = pair(&["linked"]);
        fs::create_dir(bench.path("..next")).expect("made");
        for (name, text) in [("cert.pem", next.0), ("key.pem", next.1)] {
            fs::write(bench.path("..next").join(name), text).expect("written");
            fs::remove_file(bench.path(name)).expect("removed");
            std::os::unix::fs::symlink(bench.path("..next").join(name), bench.path(name)).expect("linked");
        }
        let before = slot.current().expect("served");
        watch.look().await;
        assert!(!Arc::ptr_eq(&before, &slot.current().expect("served")));
    }
}
