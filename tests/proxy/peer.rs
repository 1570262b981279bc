//! Programs of `tests/peers` that play apps and their clients.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

fn python(script: &str) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("below the target folder");
    let python: PathBuf = target.join("peers/apps/bin/python");
    assert!(python.exists(), "{} isn't there: run `make test`, which installs it", python.display());
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script));
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A process that ends with its input.
pub(crate) struct Peer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Peer {
    pub(crate) fn start<S: AsRef<OsStr>>(script: &str, args: impl IntoIterator<Item = S>) -> Self {
        let mut command = python(script);
        command.args(args);
        let mut child = command.spawn().expect("starts");
        let said = BufReader::new(child.stdout.take().expect("is piped"));
        Self { child, said }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("says something");
        line.trim().to_owned()
    }

    /// Says a line to it.
    pub(crate) fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("is piped");
        writeln!(input, "{line}").expect("it listens");
    }

    /// Waits for its end, and gives the rest of what it says.
    pub(crate) fn ended(mut self) -> String {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("text");
        rest
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
