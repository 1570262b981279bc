//! What both kinds have: a folder, a port, a certificate, and processes that leave nothing.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use sealward::tls::dev::{self, DevCertificate};
use tempfile::TempDir;

use crate::support::{SOON, files_below, free_port};

/// Runs the server until it is told to kill it, or until we are gone, however we went: then
/// the folder goes too. A server in the midst of work doesn't look whether its parent is dead.
const WATCHER: &str = r#"
"$@" </dev/null &
server=$!
read -r asked
if [ "$asked" = kill ]; then
    kill -KILL "$server" $(pgrep -P "$server")
    wait
else
    kill -"$ending" "$server"
    wait
    rm -rf "$folder"
fi
"#;

/// A server that may run, and ends with this.
pub(crate) struct Server {
    pub(crate) port: u16,
    /// For `localhost` and 127.0.0.1, of an authority of its own.
    pub(crate) certificate: DevCertificate,
    folder: TempDir,
    /// Whose the folder and the processes are, where they can't be ours.
    owner: Option<(u32, u32)>,
    /// The program and its arguments.
    command: Vec<OsString>,
    /// The signal that ends it with nothing left behind.
    ending: &'static str,
    running: Option<Running>,
    log: Arc<Mutex<String>>,
}

struct Running {
    watcher: Child,
    /// Reads the log to its end, which comes when the last process that could write to it is gone.
    reader: JoinHandle<()>,
}

impl Server {
    /// A place for one that `ending` ends. No server is to run as root, so root's runs as the
    /// first of `users` that there is.
    pub(crate) fn new(users: &[&str], ending: &'static str) -> Self {
        // Not below a folder that these users can't enter, and short: a socket's name has its limit.
        let folder = tempfile::Builder::new().prefix("sealward-").tempdir_in("/tmp").expect("a folder");
        let tls = folder.path().join("tls");
        let certificate = dev::ensure(&tls, &[]).expect("a certificate");
        let root = fs::metadata(folder.path()).expect("is there").uid() == 0;
        let owner = root.then(|| ids(users));
        if let Some((user, group)) = owner {
            for path in files_below(&tls).into_iter().chain([tls, folder.path().to_owned()]) {
                chown(path, Some(user), Some(group)).expect("root may");
            }
        }
        let (port, command, log) = (free_port(), Vec::new(), Arc::default());
        Self { port, certificate, folder, owner, command, ending, running: None, log }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// `program` for us, with nothing of our environment that could lead it elsewhere.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder())
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// The same for the owner.
    fn owned(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.program(program);
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// Has the owner run `program` to its end, which must be a good one.
    pub(crate) fn prepare<S: AsRef<OsStr>>(&self, program: &Path, args: impl IntoIterator<Item = S>) {
        let output = self.owned(program).args(args).output().expect("starts");
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&words));
    }

    /// From now on it is `program` that is started, with `args`.
    pub(crate) fn runs<S: Into<OsString>>(&mut self, program: &Path, args: impl IntoIterator<Item = S>) {
        self.command = [OsString::from(program)].into_iter().chain(args.into_iter().map(Into::into)).collect();
    }

    pub(crate) fn start(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut watcher = self
            .owned("sh")
            .args(["-c", WATCHER, "sh"])
            .args(&self.command)
            .env("ending", self.ending)
            .env("folder", self.folder())
            // A terminal's Ctrl-C is ours alone: it ends us, and that ends the server.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh is there");
        let lines = BufReader::new(watcher.stderr.take().expect("is piped")).split(b'\n');
        let log = Arc::clone(&self.log);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = log.lock().expect("not poisoned");
                log.push_str(&String::from_utf8_lossy(&line));
                log.push('\n');
            }
        });
        self.running = Some(Running { watcher, reader });
    }

    pub(crate) fn kill(&mut self) {
        self.running.take().expect("it runs").end("kill\n");
    }

    /// Waits until `ready` says so.
    pub(crate) fn await_that(&self, ready: impl Fn() -> bool) {
        let until = Instant::now() + SOON;
        while !ready() {
            assert!(Instant::now() < until, "it never serves:\n{}", self.log.lock().expect("not poisoned"));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end("");
        }
    }
}

impl Running {
    /// Gives the watcher its last order, and waits until everything is gone.
    fn end(mut self, order: &str) {
        // Already gone is as good.
        if let Some(mut orders) = self.watcher.stdin.take() {
            let _ = orders.write_all(order.as_bytes());
        }
        let _ = self.watcher.wait();
        let _ = self.reader.join();
    }
}

/// `name` where PATH leads to, or else in one of `others`.
pub(crate) fn installed(name: &str, others: &[PathBuf]) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(others.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} isn't there: `make test` sees to it"))
}

/// The numbers of the first of `users` that there is, and of its group.
fn ids(users: &[&str]) -> (u32, u32) {
    let number = |which: &str, user: &str| -> Option<u32> {
        let output = Command::new("id").args([which, user]).output().expect("id is there");
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    let found = users.iter().find_map(|user| Some((number("-u", user)?, number("-g", user)?)));
    found.unwrap_or_else(|| panic!("there is none of {users:?}"))
}
