//! `tests/peers/floods.py`, and what it says has become of a flood.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::lab::Lab;

/// A process that floods, or plays an app; it ends with its input.
pub(crate) struct Attacker {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// What has become of a flood.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Toll {
    pub(crate) connections: u64,
    pub(crate) sent: u64,
    /// What the longest connection was sent.
    pub(crate) most: u64,
    /// Connections that the server let go on.
    pub(crate) open: u64,
    /// Connections that the server ended, by what it said.
    pub(crate) ended: BTreeMap<String, u64>,
}

impl Toll {
    /// How many connections the server ended; each for one of these `reasons`, or this fails.
    pub(crate) fn ended_for(&self, reasons: &[&str]) -> u64 {
        assert!(self.ended.keys().all(|said| reasons.contains(&said.as_str())), "not only {reasons:?}: {self:?}");
        self.ended.values().sum()
    }
}

impl Attacker {
    /// Floods the server of `lab`.
    pub(crate) fn start(lab: &Lab, what: &str, args: &[&str]) -> Self {
        let (port, ca) = (lab.server.https.port().to_string(), lab.site.path("tls/ca.pem"));
        let ca = ca.to_str().expect("a path");
        Self::run(&[&[what, port.as_str(), ca], args].concat())
    }

    /// An app that takes a second for each answer, and its port.
    pub(crate) fn app() -> (Self, String) {
        let mut app = Self::run(&["app"]);
        let port = app.line();
        (app, port)
    }

    fn run(args: &[&str]) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("below the target folder");
        let python = target.join("peers/apps/bin/python");
        assert!(python.exists(), "{} isn't there: run `make test`, which installs it", python.display());
        let mut child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/floods.py"))
            .args(args)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let said = BufReader::new(child.stdout.take().expect("is piped"));
        Self { child, said }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("says something");
        line.trim().to_owned()
    }

    /// Lets it go on where it waits, and waits for its end.
    pub(crate) fn toll(mut self) -> Toll {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("is text");
        serde_json::from_str(&rest).unwrap_or_else(|error| panic!("it says no toll ({error}): {rest:?}"))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
