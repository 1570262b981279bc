//! What integration tests share: the real binary, started as its users start it,
//! and the clients that talk to it over real sockets.

#![allow(dead_code)] // each test binary uses its own part

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sealward::{
    identity::{Grant, TokenFile},
    keys::local::Keyring,
    tls,
};
use tempfile::TempDir;

pub mod swapped;

/// How long anything that should happen soon may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// A folder laid out as an operator would: certificate, keyring, tokens, configuration.
pub struct Site {
    pub folder: TempDir,
    pub token: String,
    /// What the server finds in its environment besides.
    pub environment: Vec<(String, String)>,
    /// How many files a program of ours may hold open; `None`: as many as this test may.
    pub descriptors: Option<u64>,
}

/// A running `sealward serve`.
pub struct Sealward {
    child: Child,
    pub https: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Log>,
}

/// What one run of curl came to.
pub struct Answer {
    /// The last status; 0 when there was none.
    pub status: u16,
    /// The last head, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// curl's exit code: 0 only for a transfer that ended cleanly.
    pub exit: i32,
    /// What curl said on standard error.
    pub words: String,
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        tls::dev::ensure(&path.join("tls"), &[]).expect("a certificate");
        Keyring::create(&path.join("keyring.json"), "test", "key-1").expect("a keyring");
        let tokens = TokenFile::open(&path.join("tokens.json"), true).expect("a token file");
        let token = tokens.issue("tester", Grant::default(), None).expect("a token").expose().to_owned();
        Self { folder, token, environment: Vec::new(), descriptors: None }
    }

    /// `name` set to `value` for every program of ours that this site starts.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Our program, in this site's environment.
    pub fn command(&self) -> Command {
        let mut command = match self.descriptors {
            None => sealward(),
            Some(most) => {
                let mut command = Command::new("sh");
                let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
                command.arg("-c").arg(limited).arg(sealward().get_program());
                command
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The objects of the default class, as they lie.
    pub fn objects(&self) -> PathBuf {
        self.path("objects")
    }

    /// One class, `records`, in `objects`, behind `/files/`; `class` and `rest` are
    /// added to the class and to the end.
    pub fn config(class: &str, rest: &str) -> String {
        format!(
            r#"
[[listener]]
bind = "127.0.0.1:0"
tls = {{ source = {{ files = {{ cert = "tls/cert.pem", key = "tls/key.pem", refresh = "1s" }} }} }}
[keys]
provider = "local"
keyring = "keyring.json"
[[class]]
name = "records"
directory = "objects"
{class}
[[route]]
path = "/files/"
seal = {{ class = "records" }}
[identity]
tokens = "tokens.json"
[admin]
bind = "127.0.0.1:0"
[log]
format = "json"
level = "debug"
{rest}
"#
        )
    }

    /// Serves that configuration.
    pub fn serve(&self, class: &str, rest: &str) -> Sealward {
        self.serve_text(&Self::config(class, rest))
    }

    /// Serves `text`, a whole configuration whose log is JSON.
    pub fn serve_text(&self, text: &str) -> Sealward {
        self.serve_among(text, &[])
    }

    /// Serves `text` with more in its environment.
    pub fn serve_among(&self, text: &str, environment: &[(&str, String)]) -> Sealward {
        self.try_serve(text, environment).unwrap_or_else(|log| panic!("it doesn't serve:\n{log}"))
    }

    /// The same, or the log of a start that failed.
    pub fn try_serve(&self, text: &str, environment: &[(&str, String)]) -> Result<Sealward, String> {
        // Others that start beside this one have files of their own.
        static STARTS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let path = match (environment, STARTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            ([], _) => self.path("sealward.toml"),
            (_, start) => self.path(&format!("sealward-{start}.toml")),
        };
        fs::write(&path, text).expect("writes");
        let mut child = self
            .command()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .arg("serve")
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let log = Arc::new(Log::default());
        let lines = BufReader::new(child.stderr.take().expect("is piped"));
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                writer.push(line);
            }
            writer.end();
        });
        let Some(line) = log.wait_for(|line| line.contains("\"message\":\"serving\"")) else {
            // Already gone is as good.
            let _ = child.kill();
            let _ = child.wait();
            return Err(log.text());
        };
        let line: serde_json::Value = serde_json::from_str(&line).expect("is JSON");
        let field = |name: &str| line[name].as_str().expect("an address").trim_matches(['[', ']']).to_owned();
        // The first of them.
        let https = field("listeners").split(", ").next().and_then(|first| first.parse().ok()).expect("an address");
        let admin = field("admin").parse().expect("an address");
        Ok(Sealward { child, https, admin, log })
    }

    /// curl as this site's users call it: its CA, its token, no configuration of theirs.
    pub fn curl<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Answer {
        let header = format!("Authorization: Bearer {}", self.token);
        let mut all: Vec<std::ffi::OsString> = vec!["-H".into(), header.into()];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.curl_bare(all)
    }

    /// curl without a token.
    pub fn curl_bare<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Answer {
        let heads = tempfile::NamedTempFile::new().expect("a file");
        let output = Command::new("curl")
            .args(["--disable", "--silent", "--show-error", "--max-time", "300"])
            .arg("--cacert")
            .arg(self.path("tls/ca.pem"))
            .arg("--dump-header")
            .arg(heads.path())
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("curl is there: `make test` sees to it");
        Answer::new(&fs::read_to_string(heads.path()).unwrap_or_default(), output)
    }

    /// Puts `bytes` under `key`, and expects it to be taken.
    pub fn put(&self, server: &Sealward, key: &str, bytes: &[u8]) -> Answer {
        let file = self.path("upload.tmp");
        fs::write(&file, bytes).expect("writes");
        let answer = self.curl(["-T".as_ref(), file.as_os_str(), server.url(key).as_ref()]);
        assert!(matches!(answer.status, 200 | 201), "PUT {key}: {answer:?}");
        answer
    }

    pub fn get(&self, server: &Sealward, key: &str) -> Answer {
        self.curl([server.url(key)])
    }
}

impl Sealward {
    /// The address of `key` behind `/files/`.
    pub fn url(&self, key: &str) -> String {
        format!("https://{}/files/{key}", self.https)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most that was ever resident, in MiB, rounded up.
    pub fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib.div_ceil(1024)
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line that `wanted` knows, from the beginning of the log.
    pub fn wait_for_line(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.log.wait_for(wanted).unwrap_or_else(|| panic!("that line never came:\n{}", self.log.text()))
    }

    /// The value of the metric whose line begins with `series`; 0 when there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().expect("a number"))
    }

    pub fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.admin);
        let output = Command::new("curl").args(["--disable", "-sS", &url]).output().expect("curl");
        String::from_utf8(output.stdout).expect("is text")
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill is there").success());
    }

    /// SIGKILL, and the end.
    pub fn kill(mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
    }

    /// SIGTERM, and the end it comes to.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + SOON;
        self.log.wait_for_end(until);
        self.child.wait().expect("ends")
    }
}

impl Drop for Sealward {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    fn new(heads: &str, output: Output) -> Self {
        let last = heads.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
        let mut lines = last.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self {
            status: status.unwrap_or(0),
            headers,
            body: output.stdout,
            exit: output.status.code().unwrap_or(-1),
            words: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The value of a header; empty when it isn't there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body: String = self.text().chars().take(300).collect();
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("exit", &self.exit)
            .field("words", &self.words)
            .field("headers", &self.headers)
            .field("body", &body)
            .finish()
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Log {
    fn push(&self, line: String) {
        self.lines.lock().expect("not poisoned").0.push(line);
        self.more.notify_all();
    }

    fn end(&self) {
        self.lines.lock().expect("not poisoned").1 = true;
        self.more.notify_all();
    }

    fn text(&self) -> String {
        self.lines.lock().expect("not poisoned").0.join("\n")
    }

    fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let until = Instant::now() + SOON;
        let mut lines = self.lines.lock().expect("not poisoned");
        let mut seen = 0;
        loop {
            if let Some(line) = lines.0[seen..].iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            seen = lines.0.len();
            let left = until.checked_duration_since(Instant::now())?;
            if lines.1 {
                return None;
            }
            lines = self.more.wait_timeout(lines, left).expect("not poisoned").0;
        }
    }

    fn wait_for_end(&self, until: Instant) {
        let mut lines = self.lines.lock().expect("not poisoned");
        while !lines.1 {
            let left = until.checked_duration_since(Instant::now()).expect("it doesn't end");
            lines = self.more.wait_timeout(lines, left).expect("not poisoned").0;
        }
    }
}

/// The real binary: the one built with this test, or the one that `SEALWARD_BIN` names.
pub fn sealward() -> Command {
    Command::new(std::env::var_os("SEALWARD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sealward").into()))
}

/// The half of a token that nobody else may know. It may hold the `_` that parts them.
pub fn secret_half(token: &str) -> &str {
    &token[token.len() - 43..]
}

/// Every file below `folder`, but the store's own lock.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with(".sealward/lock") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// `len` bytes that no compression or chance makes alike: byte i is (i*31+7) mod 251.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 31 + 7) % 251).expect("below 251")).collect()
}

/// A port that nobody has, and that the system gives nobody who asks for any: it is still free when a
/// peer has started, or comes back to it.
pub fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Other test binaries begin elsewhere.
    let begin = std::process::id().wrapping_mul(16);
    (0..12_000)
        .map(|_| 20_000 + begin.wrapping_add(TRIED.fetch_add(1, Relaxed)) % 12_000)
        .map(|port| u16::try_from(port).expect("below 32000"))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of twelve thousand")
}

/// The same, on this machine.
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Waits until `done` says so.
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < until, "it never came to pass: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
