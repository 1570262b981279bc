//! What holds for a secret whatever its source.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;

/// A source that hands out what a test puts there.
struct Fake {
    version: Mutex<Result<(u32, &'static str), &'static str>>,
    asked: AtomicUsize,
    gate: tokio::sync::Semaphore,
}

#[async_trait]
impl Source for Arc<Fake> {
    #[allow(clippy::unnecessary_literal_bound)] // the trait has it so
    fn place(&self) -> &str {
        "fake"
    }

    async fn fetch(&self, known: Option<&str>) -> Result<Option<Version>, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.expect("is open").forget();
        let (number, value) = self.version.lock().expect("not poisoned").map_err(|what| Refusal::new("fake", what))?;
        let id = number.to_string();
        let value = SecretText::new(value.to_owned());
        Ok((known != Some(&id)).then_some(Version { id, value, previous: None, since: UNIX_EPOCH }))
    }
}

impl Fake {
    async fn secret(refresh: Option<Duration>) -> (Arc<Self>, Secret, Metrics) {
        let gate = tokio::sync::Semaphore::new(1000);
        let fake = Arc::new(Self { version: Mutex::new(Ok((1, "first"))), asked: AtomicUsize::new(0), gate });
        let metrics = Metrics::new().expect("metrics");
        let secret = Secret::open("db", Box::new(Arc::clone(&fake)), refresh, metrics.clone()).await.expect("opens");
        (fake, secret, metrics)
    }

    fn set(&self, version: Result<(u32, &'static str), &'static str>) {
        *self.version.lock().expect("not poisoned") = version;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn value(secret: &Secret) -> String {
    secret.current().text(None).expect("text").expose().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_new_version_is_followed_and_a_failure_changes_nothing() {
    let (fake, secret, metrics) = Fake::secret(Some(Duration::from_secs(300))).await;
    let (_reload, reloads) = watch::channel(0);
    let mut changes = secret.changes();
    let task = tokio::spawn(secret.clone().run(reloads));
    fake.set(Err("away"));
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(value(&secret), "first");
    let failed = metrics.secret_refreshes.with_label_values(&["db", "failed"]).get();
    assert!(failed >= 1, "{failed}");
    // After a failure the next look comes sooner.
    fake.set(Ok((2, "second")));
    tokio::time::timeout(Duration::from_secs(40), changes.changed()).await.expect("soon").expect("is there");
    assert_eq!(value(&secret), "second");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_reload_looks_at_once() {
    let (fake, secret, _) = Fake::secret(None).await;
    let (reload, reloads) = watch::channel(0);
    let mut changes = secret.changes();
    let task = tokio::spawn(secret.clone().run(reloads));
    fake.set(Ok((2, "second")));
    reload.send_replace(1);
    changes.changed().await.expect("is there");
    assert_eq!(value(&secret), "second");
    task.abort();
}

#[tokio::test]
async fn of_many_who_are_refused_one_asks() {
    let (fake, secret, _) = Fake::secret(None).await;
    let refused = secret.current().id.clone();
    fake.set(Ok((2, "second")));
    fake.gate.forget_permits(1000);
    let askers: Vec<_> = (0..20)
        .map(|_| {
            let (secret, refused) = (secret.clone(), refused.clone());
            tokio::spawn(async move { secret.after(&refused).await.expect("is there").id.clone() })
        })
        .collect();
    while fake.asked() < 2 {
        tokio::task::yield_now().await;
    }
    fake.gate.add_permits(1000);
    for asker in askers {
        assert_eq!(asker.await.expect("ends"), "2");
    }
    assert_eq!(fake.asked(), 2, "once at the start, once for all of them");
    // One that stays wrong doesn't make a flood.
    for _ in 0..10 {
        assert_eq!(secret.after("2").await.expect("is there").id, "2");
    }
    assert!(fake.asked() <= 3, "{}", fake.asked());
}

#[test]
fn fields_are_those_of_a_json_object() {
    let of = |text: &str, field| pick(&SecretText::new(text.to_owned()), field).map(|found| found.expose().to_owned());
    let rds = r#"{"engine":"postgres","port":5432,"password":"p\"w","ok":true,"list":[1,{"a":2}],"in":{"a":{}},"no":null,"half":1.10,"huge":123456789012345678901234}"#;
    for (field, expected) in [("engine", "postgres"), ("port", "5432"), ("password", "p\"w"), ("ok", "true")] {
        assert_eq!(of(rds, Some(field)).expect("is there"), expected);
    }
    for field in ["list", "in", "no", "none", "half", "huge"] {
        assert_eq!(of(rds, Some(field)), Err(NoField::Lacks(field.into())));
    }
    for text in ["hunter2", "{\"a\":\"hunter2\"", "[\"hunter2\"]", "\"hunter2\"", "{\"a\":\"hunter2\"} x", ""] {
        let error = of(text, Some("a")).expect_err("no object").to_string();
        assert!(error.contains("`a`") && !error.contains("hunter2"), "{error}");
    }
    assert_eq!(of("hunter2", None).expect("whole"), "hunter2");
}

#[tokio::test]
async fn nothing_shows_a_value() {
    let (_, secret, _) = Fake::secret(None).await;
    let shown = format!("{secret:?} {:?} {:?}", secret.current(), secret.changes());
    assert!(!shown.contains("first"), "{shown}");
}

#[tokio::test]
async fn a_file_is_followed_by_its_content() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("password");
    let file = local::File::new(&path);
    assert!(file.fetch(None).await.expect_err("isn't there").to_string().contains("password"));
    for (bytes, fault) in [(&b""[..], "empty"), (b"\n", "empty"), (b"\xff", "UTF-8")] {
        std::fs::write(&path, bytes).expect("writes");
        assert!(file.fetch(None).await.expect_err("is none").to_string().contains(fault));
    }
    std::fs::write(&path, "one\n").expect("writes");
    let first = file.fetch(None).await.expect("reads").expect("a version");
    assert_eq!(first.value.expose(), "one");
    assert!(file.fetch(Some(&first.id)).await.expect("reads").is_none());
    std::fs::write(&path, "two\r\n").expect("writes");
    let second = file.fetch(Some(&first.id)).await.expect("reads").expect("a version");
    assert_eq!((second.value.expose(), second.previous_text(None).expect("known").expose()), ("two", "one"));
    std::fs::write(&path, vec![b'x'; MOST + 1]).expect("writes");
    let large = fetch(&file, Some(&second.id)).await;
    assert!(large.expect_err("too large").to_string().contains("64 KiB"));
    std::fs::write(&path, vec![b'x'; 3 * MOST]).expect("writes");
    assert!(fetch(&file, Some(&second.id)).await.expect_err("too large").to_string().contains("more than"));
    // What may never end isn't begun.
    let device = fetch(&local::File::new(std::path::Path::new("/dev/zero")), None).await;
    assert!(device.expect_err("is no file").to_string().contains("not a regular file"));
    // A change that is undone is a version again.
    std::fs::write(&path, "one").expect("writes");
    assert!(file.fetch(Some(&second.id)).await.expect("reads").is_some());
}

#[test]
fn an_arn_says_its_region() {
    assert_eq!(region_of("arn:aws:secretsmanager:eu-west-1:111122223333:secret:db-a1b2c3"), Some("eu-west-1"));
    assert_eq!(region_of("arn:aws:ssm:us-east-2:111122223333:parameter/db"), Some("us-east-2"));
    for name in ["db", "arn:aws:ssm", "arn:aws:ssm::1:x", "team/db:eu"] {
        assert_eq!(region_of(name), None, "{name}");
    }
}
