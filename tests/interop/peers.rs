//! The peers of `tests/peers`, many jobs to a start.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Map, Value, json};

use crate::support::sealward;

/// Where `make test` has laid the peers out.
fn installed(program: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("below the target folder");
    let path = target.join("peers").join(program);
    assert!(path.exists(), "{} isn't there: run `make test`, which installs it", path.display());
    path
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// A peer that takes jobs, one JSON a line.
pub(crate) struct Batch {
    script: &'static str,
    jobs: Vec<Value>,
}

/// What became of the jobs, in their order.
pub(crate) struct Answers(Vec<Value>);

impl Batch {
    /// The official SDK for Python, major version 4.
    pub(crate) fn sdk() -> Self {
        Self { script: "esdk.py", jobs: Vec::new() }
    }

    /// The reader written from `docs/object-format.md` alone.
    pub(crate) fn reader() -> Self {
        Self { script: "reader.py", jobs: Vec::new() }
    }

    /// Adds a job; returns its number.
    pub(crate) fn add(&mut self, mut job: Value) -> usize {
        job["id"] = json!(self.jobs.len());
        self.jobs.push(job);
        self.jobs.len() - 1
    }

    /// Does them all.
    pub(crate) fn run(self) -> Answers {
        let mut child = Command::new(installed("esdk/bin/python"))
            .arg(script(self.script))
            .arg("batch")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines: String = self.jobs.iter().map(|job| format!("{job}\n")).collect();
        let mut stdin = child.stdin.take().expect("is piped");
        let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
        let output = child.wait_with_output().expect("ends");
        writer.join().expect("no panic").expect("takes its jobs");
        assert!(output.status.success(), "{}: {}", self.script, output.status);
        let text = String::from_utf8(output.stdout).expect("text");
        let answers: HashMap<u64, Value> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .map(|answer| (answer["id"].as_u64().expect("a number"), answer))
            .collect();
        Answers((0..self.jobs.len() as u64).map(|id| answers[&id].clone()).collect())
    }
}

impl Answers {
    /// The answer to job `id`, which must have gone well.
    pub(crate) fn good(&self, id: usize) -> &Value {
        let answer = &self.0[id];
        assert_eq!(answer["ok"], true, "job {id}: {answer}");
        answer
    }

    /// Why job `id` was refused, which it must have been.
    pub(crate) fn refused(&self, id: usize) -> &str {
        let answer = &self.0[id];
        assert_eq!(answer["ok"], false, "job {id}: {answer}");
        answer["error"].as_str().expect("words")
    }
}

/// The official command line, by `cli.sh`.
pub(crate) fn cli(args: &[&str]) -> Output {
    let target = installed("esdk-cli/bin/aws-encryption-cli");
    let target = target.ancestors().nth(4).expect("the target folder");
    let output = Command::new(script("cli.sh"))
        .args(args)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `sealward` with `args`, which must go well; its standard output.
pub(crate) fn ours(args: &[&str]) -> Vec<u8> {
    let output = sealward().args(args).output().expect("starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What `sealward inspect` prints of `file`.
pub(crate) fn inspect(file: &str) -> Map<String, Value> {
    serde_json::from_slice(&ours(&["inspect", file])).expect("JSON")
}

/// A path below `folder`, as text.
pub(crate) fn below(folder: &Path, name: impl AsRef<Path>) -> String {
    folder.join(name).to_str().expect("text").to_owned()
}

/// Whether two files have the same bytes; says which aren't and no more.
pub(crate) fn same(one: &str, other: &str) {
    let read = |path: &str| fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(read(one) == read(other), "{one} isn't {other}");
}

/// The path of a keyring in `tests/fixtures`.
pub(crate) fn keyring(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/not-secret-keyring-{name}.json"));
    path.to_str().expect("text").to_owned()
}
