//! A server that is flooded, and what must be true of it afterwards.

use std::{
    fs,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use crate::{
    apps::to,
    attackers::{Attacker, Toll},
    nginx::Nginx,
    others::{Kept, asking},
    support::{Sealward, Site, eventually},
};

/// One flood at a time: they would slow each other, and what is measured is to be the server.
static ONE: Mutex<()> = Mutex::new(());

/// What a server may hold at most while it is flooded, in MiB: the budget of buffers below,
/// and as much again for hundreds of connections.
pub(crate) const MEMORY: u64 = 200;
const BUDGET: &str = "buffer_memory = \"64MiB\"";

/// Files that may be open at the end besides those of the beginning: a few are made when first needed.
const SLACK: usize = 8;

/// What an app answers only after it has read the whole body, as most do.
const SINK: &str = "location = /sink { proxy_pass http://$server_addr:$server_port/; }";

/// An app, and a server before it: `/` goes on to the app, `/drop/` is sealed, and anybody may ask.
pub(crate) struct Lab {
    pub(crate) server: Sealward,
    pub(crate) app: Nginx,
    pub(crate) site: Site,
    files: usize,
    _one: MutexGuard<'static, ()>,
}

impl Lab {
    /// With `limits` besides the usual ones.
    pub(crate) fn new(limits: &str) -> Self {
        Self::with(limits, "")
    }

    /// With `more` routes and upstreams too.
    pub(crate) fn with(limits: &str, more: &str) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (site, app) = (Site::new(), Nginx::start("one", SINK));
        let sealed = "[[route]]\npath = \"/drop/\"\npublic = true\nseal = { class = \"records\" }\n";
        let limits = format!("[limits]\n{BUDGET}\n{limits}\n");
        let text = Site::config("", &[to(&[app.url()], ""), sealed.to_owned(), more.to_owned(), limits].concat());
        // Every request is told once; hundreds of thousands of frames are not.
        let server = site.serve_text(&text.replacen("level = \"debug\"", "level = \"info\"", 1));
        site.put(&server, "kept", b"sealed");
        let files = open_files(&server);
        Self { server, app, site, files, _one: one }
    }

    /// The address of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.https.port())
    }

    /// What `flood` comes to. Meanwhile others ask: over new connections, over one that was there
    /// before, and whether the server is ready; each must be told 200 each time.
    pub(crate) fn flooded<T>(&self, name: &str, flood: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        let kept = Kept::begin(self);
        let ready = format!("http://{}/readyz", self.server.admin);
        let since = Instant::now();
        let (outcome, during, lasted) = thread::scope(|scope| {
            let _ending = Ending(&over);
            let fresh = scope.spawn(|| asking(self, &over, &[self.url("/others"), self.url("/drop/kept")]));
            let ready = scope.spawn(|| asking(self, &over, &[ready]));
            let outcome = flood();
            over.store(true, Relaxed);
            let (during, lasted) = (kept.asked(), since.elapsed());
            fresh.join().expect("asks to the end").told(name, "new connections", lasted);
            ready.join().expect("asks to the end").told(name, "readiness", lasted);
            (outcome, during, lasted)
        });
        kept.end(during).told(name, "a kept connection", lasted);
        outcome
    }

    /// Runs `tests/peers/floods.py` against this server to its end.
    pub(crate) fn attack(&self, what: &str, args: &[&str]) -> Toll {
        let toll = Attacker::start(self, what, args).toll();
        say(&format!("  {what} {args:?}: {toll:?}"));
        toll
    }

    /// What is open, in the state `serving`.
    pub(crate) fn serving(&self) -> f64 {
        self.server.metric("sealward_connections{state=\"serving\"}")
    }

    /// Everything that the flood has taken comes back; it took less than `memory` MiB at most.
    pub(crate) fn calm(mut self, memory: u64) {
        let peak = self.server.peak();
        say(&format!("  at most {peak} MiB resident"));
        assert!(peak < memory, "{peak} MiB");
        eventually("all connections end", || self.serving() == 0.0);
        eventually("all handshakes end", || self.server.metric("sealward_connections{state=\"handshake\"}") == 0.0);
        eventually("nothing is under way", || {
            self.server.metric("sealward_upstream_requests_in_flight{upstream=\"app\"}") == 0.0
                && self.server.metric("sealward_uploads_in_flight ") == 0.0
        });
        // Connections to an app are kept for the next request, as long as the app is there.
        self.app.kill();
        let most = self.files + SLACK;
        eventually("files are closed", || open_files(&self.server) <= most);
        assert!(!self.server.log().contains("panicked"), "{}", self.server.log());
    }
}

fn open_files(server: &Sealward) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("Linux").count()
}

/// What was measured, for who runs this with `--nocapture`.
#[allow(clippy::print_stdout)]
pub(crate) fn say(words: &str) {
    println!("{words}");
}

/// Ends those who ask, also where a check failed: the scope waits for them.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
