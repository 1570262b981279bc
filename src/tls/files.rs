//! Certificates from two PEM files that others replace while we serve.
//!
//! The files' content is compared, not their times: Kubernetes swaps a symbolic
//! link, others copy with old times. What changed is read until it stands
//! still, proved, and published whole; what is not believed changes nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    CertificateSlot,
    prove::{self, Proved, Reason, Refusal},
};
use crate::metrics::Metrics;

/// A certificate or key file larger than this, in bytes, is none.
const MAX_FILE: u64 = 1 << 20;
/// How long a changed pair must stand still before it is proved, at most.
const SETTLE: Duration = Duration::from_millis(250);

/// Keeps a slot true to its files. Made by [`open`].
#[derive(Debug)]
pub struct Watch {
    slot: Arc<CertificateSlot>,
    pair: Paths,
    refresh: Duration,
    metrics: Metrics,
    served: Digest,
    doubted: Option<Digest>,
    refused: Option<(Digest, Reason)>,
}

/// Reads and proves the pair for the first time, and publishes it in a new slot called `name`.
///
/// `refresh` is how often [`Watch::run`] looks.
///
/// # Errors
/// [`Refusal`]: without a first certificate there is nothing to serve.
pub fn open(
    name: &str,
    cert: &Path,
    key: &Path,
    refresh: Duration,
    metrics: Metrics,
) -> Result<(Arc<CertificateSlot>, Watch), Refusal> {
    let pair = Paths { cert: cert.to_owned(), key: key.to_owned() };
    let content = pair.read()?;
    let proved = content.prove(&pair)?;
    let slot = Arc::new(CertificateSlot::new(name, &proved));
    let served = content.digest();
    let watch = Watch { slot: slot.clone(), pair, refresh, metrics, served, doubted: None, refused: None };
    watch.publish(&proved);
    Ok((slot, watch))
}

/// Reads and proves the pair, and publishes nothing.
///
/// # Errors
/// [`Refusal`], as [`open`]'s.
pub fn look(cert: &Path, key: &Path) -> Result<Proved, Refusal> {
    let pair = Paths { cert: cert.to_owned(), key: key.to_owned() };
    pair.read()?.prove(&pair)
}

impl Watch {
    /// Looks every `refresh`, and at once whenever `reload` changes (SIGHUP). Never
    /// ends by itself; drop or abort it. The old pair is served until a new one is believed.
    pub async fn run(mut self, mut reload: watch::Receiver<u64>) {
        let mut reloads = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.refresh) => {}
                changed = reload.changed(), if reloads => {
                    // Nobody is left to ask: the clock goes on alone.
                    reloads = changed.is_ok();
                    if !reloads {
                        continue;
                    }
                    self.refused = None;
                }
            }
            self.look().await;
        }
    }

    /// One look at the files.
    async fn look(&mut self) {
        let (first, digest) = self.read().await;
        if digest == self.served {
            self.doubted = None;
            self.refused = None;
            return;
        }
        if first.is_ok() {
            // A writer may be at it: only what reads the same twice is looked into.
            tokio::time::sleep(SETTLE.min(self.refresh)).await;
            let (_, again) = self.read().await;
            if again != digest {
                return;
            }
        }
        match first.and_then(|content| content.prove(&self.pair)) {
            Ok(proved) => {
                self.slot.publish(&proved);
                self.publish(&proved);
                self.served = digest;
                self.doubted = None;
                self.refused = None;
            }
            Err(refusal) => self.refuse(&refusal, digest),
        }
    }

    /// Says so once for each bad content.
    fn refuse(&mut self, refusal: &Refusal, digest: Digest) {
        // One file after the other is how most tools write: it gets a second look before it is a fault.
        if refusal.reason.may_pass() && self.doubted != Some(digest) {
            self.doubted = Some(digest);
            return;
        }
        let this = (digest, refusal.reason.clone());
        if self.refused.as_ref() == Some(&this) {
            return;
        }
        self.refused = Some(this);
        self.metrics.certificate_loads.with_label_values(&[self.slot.name(), "refused"]).inc();
        tracing::warn!(certificate = self.slot.name(), "new certificate refused, the old one serves on: {refusal}");
    }

    fn publish(&self, proved: &Proved) {
        let name = self.slot.name();
        self.metrics.certificate_expiry.with_label_values(&[name]).set(proved.not_after);
        self.metrics.certificate_loads.with_label_values(&[name, "published"]).inc();
        tracing::info!(certificate = name, serial = proved.serial, names = ?proved.names, "certificate published");
        for warning in &proved.warnings {
            tracing::warn!(certificate = name, "{}: {warning}", self.pair.cert.display());
        }
    }

    async fn read(&self) -> (Result<Content, Refusal>, Digest) {
        let pair = self.pair.clone();
        let read = tokio::task::spawn_blocking(move || pair.read()).await.unwrap_or_else(|_| {
            let reason = Reason::Unreadable("the reading task ended".into());
            Err(Refusal { file: self.pair.cert.clone(), reason })
        });
        let digest = match &read {
            Ok(content) => content.digest(),
            Err(refusal) => digest(&[refusal.to_string().as_bytes()]),
        };
        (read, digest)
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
        Ok(Content { cert: read(&self.cert)?.to_vec(), key: read(&self.key)? })
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

fn digest(parts: &[&[u8]]) -> Digest {
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

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let refusal = |error: io::Error| Refusal { file: path.to_owned(), reason: Reason::Unreadable(error.to_string()) };
    let size = std::fs::metadata(path).map_err(refusal)?.len();
    if size > MAX_FILE {
        return Err(refusal(io::Error::other(format!("{size} bytes, more than {MAX_FILE}"))));
    }
    std::fs::read(path).map(Zeroizing::new).map_err(refusal)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use time::OffsetDateTime;

    use super::{
        super::prove::tests::{made, pair},
        *,
    };

    struct Bench {
        dir: tempfile::TempDir,
        metrics: Metrics,
    }

    impl Bench {
        fn new() -> (Self, Arc<CertificateSlot>, Watch) {
            let bench = Self { dir: tempfile::tempdir().expect("a folder"), metrics: Metrics::new().expect("metrics") };
            bench.put(&pair(&["first"]));
            let (cert, key) = (bench.path("cert.pem"), bench.path("key.pem"));
            let (slot, watch) =
                open("t", &cert, &key, Duration::from_millis(1), bench.metrics.clone()).expect("a good pair");
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
        let (bench, slot, mut watch) = Bench::new();
        let before = slot.current();
        watch.look().await;
        assert!(Arc::ptr_eq(&before, &slot.current()), "nothing changed");
        bench.put(&pair(&["second"]));
        watch.look().await;
        assert!(!Arc::ptr_eq(&before, &slot.current()));
        assert_eq!((bench.loads("published"), bench.loads("refused")), (2, 0));
    }

    #[tokio::test]
    async fn a_reload_looks_at_once() {
        let (bench, slot, mut watch) = Bench::new();
        watch.refresh = Duration::from_secs(3600);
        let (ask, asked) = tokio::sync::watch::channel(0);
        let task = tokio::spawn(watch.run(asked));
        let before = slot.current();
        bench.put(&pair(&["second"]));
        ask.send_replace(1);
        while Arc::ptr_eq(&before, &slot.current()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        task.abort();
    }

    #[tokio::test]
    async fn bad_pairs_are_refused_once_and_change_nothing() {
        let (bench, slot, mut watch) = Bench::new();
        let before = slot.current();
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
        assert!(Arc::ptr_eq(&before, &slot.current()));
    }

    #[tokio::test]
    async fn one_file_after_the_other_is_no_fault() {
        let (bench, slot, mut watch) = Bench::new();
        let before = slot.current();
        let (cert, key) = pair(&["second"]);
        fs::write(bench.path("cert.pem"), cert).expect("written");
        watch.look().await;
        assert!(Arc::ptr_eq(&before, &slot.current()));
        fs::write(bench.path("key.pem"), key).expect("written");
        watch.look().await;
        assert!(!Arc::ptr_eq(&before, &slot.current()));
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
        let (bench, slot, mut watch) = Bench::new();
        let next = pair(&["linked"]);
        fs::create_dir(bench.path("..next")).expect("made");
        for (name, text) in [("cert.pem", next.0), ("key.pem", next.1)] {
            fs::write(bench.path("..next").join(name), text).expect("written");
            fs::remove_file(bench.path(name)).expect("removed");
            std::os::unix::fs::symlink(bench.path("..next").join(name), bench.path(name)).expect("linked");
        }
        let before = slot.current();
        watch.look().await;
        assert!(!Arc::ptr_eq(&before, &slot.current()));
    }
}
