//! A stand-in for AWS, and what is done to it behind the server's back.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

use sealward::message::{Caps, Header};
use serde_json::{Value, json};

use crate::support::Site;

/// The one pair of keys that rclone's server knows; the others believe anybody.
pub(crate) const ACCESS_KEY: &str = "stand-in";
pub(crate) const SECRET: &str = "not-a-secret-at-all";
const REGION: &str = "eu-west-1";

/// KMS contexts and key states, SSE-KMS as it was stored, bucket policies without
/// conditions. Not digests, not signatures.
pub(crate) fn moto() -> &'static StandIn {
    static MOTO: OnceLock<StandIn> = OnceLock::new();
    MOTO.get_or_init(|| StandIn::start("moto"))
}

/// Digests and conditional writes. Not policies, not signatures.
pub(crate) fn ministack() -> &'static StandIn {
    static MINISTACK: OnceLock<StandIn> = OnceLock::new();
    MINISTACK.get_or_init(|| StandIn::start("ministack"))
}

/// Signatures. It has no KMS and no encryption of its own.
pub(crate) fn rclone() -> &'static StandIn {
    static RCLONE: OnceLock<StandIn> = OnceLock::new();
    RCLONE.get_or_init(|| StandIn::start("rclone"))
}

/// `tests/peers/aws_admin.py` and the server that it has started. That ends with our
/// end of its standard input, however we end.
pub(crate) struct StandIn {
    pub(crate) endpoint: String,
    admin: Mutex<Admin>,
}

struct Admin {
    child: Child,
    jobs: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Where `make test` has laid the peers out.
pub(crate) fn installed(program: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("below the target folder");
    let path = target.join("peers").join(program);
    assert!(path.exists(), "{} isn't there: run `make test`, which installs it", path.display());
    path
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// What every client of a stand-in finds in its environment; nothing of the user's
/// own AWS is ever looked at.
pub(crate) fn environment() -> Vec<(&'static str, String)> {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

impl StandIn {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(installed("aws/bin/python"))
            .arg(script("aws_admin.py"))
            .arg(kind)
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .envs(environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut answers = BufReader::new(child.stdout.take().expect("is piped"));
        let jobs = child.stdin.take();
        let mut line = String::new();
        answers.read_line(&mut line).expect("answers");
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{kind} doesn't start"));
        let endpoint = said["endpoint"].as_str().expect("an address").to_owned();
        Self { endpoint, admin: Mutex::new(Admin { child, jobs, answers }) }
    }

    /// A site whose server speaks to this stand-in.
    pub(crate) fn site(&self) -> Site {
        let site = Site::new().with("AWS_ENDPOINT_URL", &self.endpoint);
        environment().iter().fold(site, |site, (name, value)| site.with(name, value))
    }

    /// Has `job` done, and gives the answer whatever it is.
    pub(crate) fn ask(&self, job: Value) -> Value {
        let mut admin = self.admin.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut line = job.to_string();
        line.push('\n');
        admin.jobs.as_mut().expect("is there").write_all(line.as_bytes()).expect("takes a job");
        line.clear();
        admin.answers.read_line(&mut line).expect("answers");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Has `job` done, which must go well.
    pub(crate) fn does(&self, job: Value) -> Value {
        let answer = self.ask(job.clone());
        assert_eq!(answer["ok"], true, "{job}: {answer}");
        answer
    }

    /// A fresh key's ARN.
    pub(crate) fn key(&self) -> String {
        text(&self.does(json!({"do": "key"}))["arn"])
    }

    pub(crate) fn alias(&self, name: &str, arn: &str) {
        self.does(json!({"do": "alias", "name": name, "arn": arn}));
    }

    /// A fresh bucket.
    pub(crate) fn bucket(&self, name: &str) -> String {
        self.does(json!({"do": "bucket", "name": name}));
        name.to_owned()
    }

    /// The names in a bucket.
    pub(crate) fn objects(&self, bucket: &str) -> Vec<String> {
        self.does(json!({"do": "objects", "bucket": bucket}))["keys"]
            .as_array()
            .expect("names")
            .iter()
            .map(text)
            .collect()
    }

    /// The uploads that are neither complete nor undone.
    pub(crate) fn uploads(&self, bucket: &str) -> Value {
        self.does(json!({"do": "uploads", "bucket": bucket}))["keys"].clone()
    }

    pub(crate) fn head(&self, bucket: &str, key: &str) -> Value {
        self.does(json!({"do": "head", "bucket": bucket, "key": key}))["head"].clone()
    }

    /// The raw bytes of an object, in a file of `site`.
    pub(crate) fn raw(&self, site: &Site, bucket: &str, key: &str) -> PathBuf {
        let out = site.path("raw");
        self.does(json!({"do": "get", "bucket": bucket, "key": key, "out": out}));
        out
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let mut admin = self.admin.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        admin.jobs = None;
        let _ = admin.child.wait();
    }
}

/// The header of a sealed file.
pub(crate) fn header(file: &Path) -> Header {
    let bytes = std::fs::read(file).expect("reads");
    Header::parse(&bytes, &Caps::default()).expect("a header").expect("a whole one")
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// One class, `records`, in `bucket` under `kms_key`; `class` is added to it.
pub(crate) fn under_kms(bucket: &str, kms_key: &str, class: &str) -> String {
    let place = format!("bucket = \"{bucket}\"\nkms_key = \"{kms_key}\"\n{class}");
    let local = "provider = \"local\"\nkeyring = \"keyring.json\"";
    Site::config(&place, "").replace(local, "provider = \"kms\"").replace("directory = \"objects\"\n", "")
}

/// The same without KMS: data keys from the site's keyring.
pub(crate) fn under_keyring(bucket: &str, class: &str) -> String {
    let place = format!("bucket = \"{bucket}\"\nrequire_sse_kms = false\n{class}");
    Site::config(&place, "").replace("directory = \"objects\"\n", "")
}
