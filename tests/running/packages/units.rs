//! The units, as systemd reads them, and what it and Sealward say to each other: a socket that is
//! passed, words that are sent.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use super::{binary, program, ran, said, serves, sources};
use crate::support::{SOON, Site, eventually, free_port};

/// The most that `systemd-analyze security` may find, in tenths; 252 finds 1.1.
const EXPOSURE: &str = "12";

/// What a service manager hears, a datagram of lines at a time.
pub(super) struct Manager(UnixDatagram);

impl Manager {
    pub(super) fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("binds");
        socket.set_read_timeout(Some(SOON)).expect("a bound");
        Self(socket)
    }

    /// Waits for `line`, and gives all that came with it.
    pub(super) fn hears(&self, line: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("{line} never came: {error}"));
            let words = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if words.lines().any(|found| found == line) {
                return words;
            }
        }
    }
}

/// What systemd's own program starts when somebody connects to `port`; it is the same process then.
pub(super) struct Activated(Child);

impl Activated {
    /// Whoever comes to `port` has `command` started, which speaks to the manager at `notify`.
    pub(super) fn by(port: u16, notify: &str, command: &[&str]) -> Self {
        let mut activate = program("systemd-socket-activate");
        activate.arg("--listen").arg(format!("127.0.0.1:{port}"));
        activate.arg(format!("--setenv=NOTIFY_SOCKET={notify}")).arg("--setenv=WATCHDOG_USEC=1000000");
        let started = activate.args(command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = started.expect("systemd-socket-activate is there: `make test` sees to it");
        let mut lines = BufReader::new(child.stderr.take().expect("is piped")).lines().map_while(Result::ok);
        let words = lines.next().unwrap_or_default();
        assert!(words.starts_with("Listening on "), "{words}");
        // To its end: a pipe that nobody reads stops who writes to it.
        thread::spawn(move || lines.for_each(drop));
        Self(child)
    }

    pub(super) fn signal(&self, name: &str) {
        said(program("kill").arg(format!("-{name}")).arg(self.0.id().to_string()));
    }

    /// Waits for its end, which must be a good one.
    pub(super) fn ends(mut self) {
        let status = self.0.wait().expect("ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = binary();
    let units = ["sealward.service", "sealward.socket"].map(|name| {
        let unit = fs::read_to_string(sources("config/systemd").join(name)).expect("reads");
        let path = folder.path().join(name);
        // It looks whether the program is there.
        fs::write(&path, unit.replace("/usr/bin/sealward", own.to_str().expect("is text"))).expect("writes");
        path
    });
    let verified = ran(program("systemd-analyze").args(["verify", "--man=no"]).args(&units));
    let words = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success(), "{words}");
    // Of other units of this machine it may say what it likes.
    assert!(!words.contains("sealward"), "{words}");
    let unknown = fs::read_to_string(&units[0]).expect("reads").replace("ProtectHome=", "ProtectHomes=");
    fs::write(&units[0], unknown).expect("writes");
    let verified = ran(program("systemd-analyze").args(["verify", "--man=no"]).args(&units));
    assert!(String::from_utf8_lossy(&verified.stderr).contains("'ProtectHomes'"));
}

#[test]
fn the_unit_leaves_little_exposed() {
    let analyze = |unit: &Path| -> Command {
        let mut analyze = program("systemd-analyze");
        analyze.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE]).arg(unit);
        analyze
    };
    said(&mut analyze(&sources("config/systemd/sealward.service")));
    let folder = tempfile::tempdir().expect("a folder");
    let unit = fs::read_to_string(sources("config/systemd/sealward.service")).expect("reads");
    let wider = folder.path().join("sealward.service");
    fs::write(&wider, unit.replace("\nUser=sealward\n", "\n")).expect("writes");
    assert!(!ran(&mut analyze(&wider)).status.success(), "more may be exposed than {EXPOSURE} tenths");
}

#[test]
fn a_socket_that_systemd_holds_is_served_and_systemd_is_told_how_it_goes() {
    let (site, port) = (Site::new(), free_port());
    let config = Site::config("", "").replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1);
    let config = config + "\n[limits]\ndrain_timeout = \"55m\"\ndrain_delay = \"1s\"\n";
    fs::write(site.path("sealward.toml"), config).expect("writes");
    let (notify, config) = (site.path("notify"), site.path("sealward.toml"));
    let manager = Manager::at(&notify);
    let own = binary();
    let command = [own.as_path(), Path::new("serve"), Path::new("--config"), config.as_path()];
    let command = command.map(|word| word.to_str().expect("is text"));
    let server = Activated::by(port, notify.to_str().expect("is text"), &command);
    // Nothing runs yet: the first who comes has it started, waits in the socket, and is served.
    serves(&site, &format!("https://127.0.0.1:{port}/files/object"));
    let words = manager.hears("READY=1");
    assert!(words.contains(&format!("STATUS=serving at 127.0.0.1:{port}")), "{words}");
    manager.hears("WATCHDOG=1");
    // As `systemctl reload` does.
    let further = "\n[[route]]\npath = \"/more/\"\nseal = { class = \"records\" }\n";
    let text = fs::read_to_string(&config).expect("reads");
    fs::write(&config, text + further).expect("writes");
    let status = || site.curl([format!("https://127.0.0.1:{port}/more/object")]).status;
    assert_eq!(status(), 404);
    server.signal("HUP");
    eventually("the new route is served", || status() == 200);
    server.signal("TERM");
    let words = manager.hears("STOPPING=1");
    // Both, and ten seconds: for what is undone, for the last spans, and for what blocks.
    assert!(words.contains(&format!("EXTEND_TIMEOUT_USEC={}\n", (55 * 60 + 1 + 10) * 1_000_000_u64)), "{words}");
    server.ends();
}
