use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rcgen::{CertificateParams, KeyPair};
use sealward::tls::dev;
use time::{Duration, OffsetDateTime};

use crate::bench::{Bench, Client, limits, within};

/// A new pair of the same authority, put in place one file right after the other.
fn replace(dir: &Path) {
    let next = tempfile::tempdir_in(dir).expect("a folder");
    for file in ["ca.pem", "ca-key.pem"] {
        fs::copy(dir.join(file), next.path().join(file)).expect("copies");
    }
    let name = format!("again-{}.test", OffsetDateTime::now_utc().unix_timestamp_nanos());
    dev::ensure(next.path(), &[name]).expect("made");
    for file in ["key.pem", "cert.pem"] {
        fs::rename(next.path().join(file), dir.join(file)).expect("renames");
    }
}

/// Handshakes anew until the server shows another certificate than `old`.
async fn renewed(bench: &Bench, old: &[u8]) -> Client {
    within(async {
        loop {
            let client = bench.http1().await;
            if client.leaf() != old {
                return client;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_load_fails_no_request() {
    let bench = Bench::new(limits()).await;
    let old = bench.http1().await.leaf();
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = bench.http1().await;
        let (done, answered) = (done.clone(), answered.clone());
        load.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(client.get("/").await.expect("no failed request").1, "hello");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    replace(bench.dir.path());
    let mut client = renewed(&bench, &old).await;
    assert_eq!(client.get("/").await.expect("answered").1, "hello");
    let before = answered.load(Ordering::Relaxed);
    within(async {
        while answered.load(Ordering::Relaxed) < before + 80 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.expect("no failed request");
    }
    assert_eq!(bench.metrics.certificate_loads.with_label_values(&["main", "refused"]).get(), 0);
}

#[tokio::test]
async fn a_bad_pair_is_refused_and_the_old_one_serves() {
    let bench = Bench::new(limits()).await;
    let old = bench.http1().await.leaf();
    let refused = bench.metrics.certificate_loads.with_label_values(&["main", "refused"]);
    let key_path = bench.dir.path().join("key.pem");
    let (good_key, stranger) = (fs::read(&key_path).expect("read"), KeyPair::generate().expect("a key"));
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
    let expired = params.self_signed(&stranger).expect("signed").pem();

    let cert_path = bench.dir.path().join("cert.pem");
    let bad = [(&key_path, stranger.serialize_pem()), (&cert_path, expired), (&cert_path, "garbage".to_owned())];
    for (count, (path, text)) in (1..).zip(bad) {
        fs::write(path, text).expect("written");
        within(async {
            while refused.get() < count {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        let mut client = bench.http1().await;
        assert_eq!(client.leaf(), old);
        assert_eq!(client.get("/").await.expect("answered").1, "hello");
    }
    fs::write(&key_path, good_key).expect("written");
    replace(bench.dir.path());
    renewed(&bench, &old).await;
}
