//! Connections that switch to another protocol: WebSocket, by Python's `websockets`.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::{
    apps::{ask, serve, to},
    nginx::Nginx,
    support::{Sealward, Site, eventually},
};

fn python() -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("below the target folder");
    let python: PathBuf = target.join("peers/apps/bin/python");
    assert!(python.exists(), "{} isn't there: run `make test`, which installs it", python.display());
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/websocket.py"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A process that ends with its input.
struct Peer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Peer {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("starts");
        let said = BufReader::new(child.stdout.take().expect("is piped"));
        Self { child, said }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("says something");
        line.trim().to_owned()
    }

    /// Waits for its end, and gives the rest of what it says.
    fn ended(mut self) -> String {
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

fn echo() -> (Peer, String) {
    let mut command = python();
    command.arg("serve");
    let mut peer = Peer::start(command);
    let url = format!("http://127.0.0.1:{}", peer.line());
    (peer, url)
}

fn talker(site: &Site, server: &Sealward, hold: bool) -> Peer {
    let mut command = python();
    command.arg("talk").arg(format!("wss://localhost:{}/chat", server.https.port())).arg(site.path("tls/ca.pem"));
    if hold {
        command.arg("hold");
    }
    Peer::start(command)
}

#[test]
fn a_websocket_passes_both_ways() {
    let site = Site::new();
    let (_echo, url) = echo();
    let server = serve(&site, &to(&[url], ""));
    let talk = talker(&site, &server, false);
    assert_eq!(talk.ended().trim(), "good");
    server.wait_for_line(|line| line.contains("\"status\":101"));
    eventually("nothing is under way", || {
        server.metric("sealward_upstream_requests_in_flight{upstream=\"app\"}") == 0.0
    });
    eventually("nothing is open", || server.metric("sealward_connections{state=\"serving\"}") == 0.0);
}

#[test]
fn an_idle_one_ends_and_a_second_word_to_stop_cuts() {
    let site = Site::new();
    let (_echo, url) = echo();
    let server = serve(&site, &to(std::slice::from_ref(&url), "idle_timeout = \"500ms\""));
    let mut idle = talker(&site, &server, true);
    assert_eq!(idle.line(), "open");
    idle.ended();
    drop(server);

    let mut server = serve(&site, &to(&[url], ""));
    let mut held = talker(&site, &server, true);
    assert_eq!(held.line(), "open");
    assert_eq!(server.metric("sealward_upstream_requests_in_flight{upstream=\"app\"}"), 1.0);
    server.signal("TERM");
    server.wait_for_line(|line| line.contains("told to stop:"));
    server.signal("TERM");
    assert!(server.wait().success());
    held.ended();
}

#[test]
fn an_app_that_doesnt_switch_answers_as_ever() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let server = serve(&site, &to(&[app.url()], ""));
    let wants = ["--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"];
    assert_eq!(ask(&site, &server, "/", &wants).status, 200);
    assert_eq!(
        ask(&site, &server, "/", &["--http1.1", "-H", "Connection: Upgrade, HTTP2-Settings", "-H", "Upgrade: h2c"])
            .status,
        200
    );
}
