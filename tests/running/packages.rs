//! How Sealward is installed: image, stack, manifests, units, Debian's package, and what a release
//! consists of. What is packed is the binary that all tests run, without its symbols.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::Value;

use crate::support::{SOON, Site, sealward};

mod compose;
mod dist;
mod image;
mod kubernetes;
mod units;

/// A program that serves until this is dropped, however it was started.
struct Serving {
    child: Child,
    https: SocketAddr,
    admin: SocketAddr,
}

impl Serving {
    /// Starts `command`, whose log is JSON and goes to standard error, and waits until it serves.
    fn start(command: &mut Command) -> Self {
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = BufReader::new(child.stderr.take().expect("is piped")).lines();
        let (sender, receiver) = mpsc::channel();
        // To its end: a pipe that nobody reads stops who writes to it.
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let mut log = String::new();
        let serving = loop {
            let line = receiver.recv_timeout(SOON).unwrap_or_else(|_| panic!("it doesn't serve:\n{log}"));
            if line.contains("\"message\":\"serving\"") {
                break line;
            }
            log.push_str(&line);
            log.push('\n');
        };
        let serving: Value = serde_json::from_str(&serving).expect("is JSON");
        let address = |name: &str| -> SocketAddr {
            let text = serving[name].as_str().expect("an address").trim_matches(['[', ']']);
            text.parse().expect("an address")
        };
        Self { https: address("listeners"), admin: address("admin"), child }
    }

    fn url(&self, key: &str) -> String {
        format!("https://{}/files/{key}", self.https)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // What started it ends it, too, unless it is killed. Already gone is as good.
        let _ = program("kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// A path from the root of the sources.
fn sources(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The binary under test, as a path.
fn binary() -> PathBuf {
    PathBuf::from(sealward().get_program())
}

/// A program, with nothing to read, and words that tests know.
fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// What `command` comes to; that it can be started goes without saying.
fn ran(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: `make test` sees to it"))
}

/// What `command` prints, which must go well.
fn said(command: &mut Command) -> String {
    let output = ran(command);
    let words = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{words}{text}", output.status);
    text
}

/// What `command` says on standard error as it fails, which it must.
fn refused(command: &mut Command) -> String {
    let output = ran(command);
    assert!(!output.status.success(), "{command:?} goes well");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Root's doings are real, others' are within a namespace of users.
fn is_root() -> bool {
    said(program("id").arg("-u")).trim() == "0"
}

/// Puts an object, and reads it back: all of it works.
fn serves(site: &Site, url: &str) {
    let file = site.path("object.tmp");
    std::fs::write(&file, "sealed on the way").expect("writes");
    let stored = site.curl(["-T".as_ref(), file.as_os_str(), url.as_ref()]);
    assert_eq!(stored.status, 201, "{stored:?}");
    let read = site.curl([url]);
    assert_eq!((read.status, read.text().as_str()), (200, "sealed on the way"), "{read:?}");
}
