//! Who uses the server while it is flooded, and how long each request takes them.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    lab::{Lab, say},
    support::eventually,
};

/// Nobody asks without a pause: the flood is to have the processors too.
const PAUSE: Duration = Duration::from_millis(20);

/// In a flood that lasts so long somebody is served while it lasts.
const LASTING: Duration = Duration::from_secs(5);

/// How many requests of others are waited for at the very least.
const FEWEST: usize = 5;

/// Those requests: how long each took, in milliseconds, and what failed.
#[derive(Default)]
pub(crate) struct Asked {
    took: Vec<f64>,
    /// How many had ended, well or not, before the flood had.
    during: usize,
    failed: Vec<String>,
}

impl Asked {
    /// Says how it went. Not one may have failed.
    pub(crate) fn told(mut self, name: &str, whose: &str, lasted: Duration) {
        // A short one a busy machine may stand still for.
        assert!(self.during > 0 || lasted < LASTING, "{name}, {whose}: nobody was served while it lasted");
        assert!(self.failed.is_empty(), "{name}, {whose}: {} of them: {}", self.failed.len(), self.failed[0]);
        self.took.sort_by(f64::total_cmp);
        let many = self.took.len();
        assert!(many >= FEWEST, "{name}, {whose}: only {many}");
        let (half, most, last) = (self.took[many / 2], self.took[many * 99 / 100], self.took[many - 1]);
        say(&format!("{name}, {whose}: {many} served; p50 {half:.1} ms, p99 {most:.1} ms, worst {last:.1} ms"));
    }
}

/// Asks for one of `urls` after the other, each over a connection of its own, until it is `over`.
pub(crate) fn asking(lab: &Lab, over: &AtomicBool, urls: &[String]) -> Asked {
    let mut asked = Asked::default();
    for url in urls.iter().cycle() {
        if !over.load(Relaxed) {
            asked.during = asked.took.len() + asked.failed.len();
        }
        // A flood may be over before a busy machine has let anybody ask as often.
        if over.load(Relaxed) && asked.took.len() + asked.failed.len() >= FEWEST {
            break;
        }
        let answer = lab.site.curl_bare(["--max-time", "20", "--write-out", "%{stderr}%{time_total}", url.as_str()]);
        match (answer.status, answer.exit, answer.words.trim().parse::<f64>()) {
            (200, 0, Ok(seconds)) => asked.took.push(seconds * 1000.0),
            _ => asked.failed.push(format!("{url}: {answer:?}")),
        }
        thread::sleep(PAUSE);
    }
    asked
}

/// A curl that asks again and again over one connection.
pub(crate) struct Kept {
    curl: Child,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Kept {
    pub(crate) fn begin(lab: &Lab) -> Self {
        let mut curl = Command::new("curl")
            .args(["--disable", "--silent", "--show-error", "--max-time", "20", "--rate", "20/s", "--cacert"])
            .arg(lab.site.path("tls/ca.pem"))
            // What goes to stderr leaves at once, and is there when curl is ended.
            .args(["--write-out", "%{stderr}%{http_code} %{time_total} %{num_connects}\\n"])
            .arg(lab.url("/kept?number=[1-100000]"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("curl is there: `make test` sees to it");
        let mut stderr = BufReader::new(curl.stderr.take().expect("is piped"));
        let said = Arc::<Mutex<String>>::default();
        let reader = thread::spawn({
            let said = Arc::clone(&said);
            move || {
                let mut line = String::new();
                while stderr.read_line(&mut line).expect("is text") > 0 {
                    said.lock().expect("not poisoned").push_str(&std::mem::take(&mut line));
                }
            }
        });
        Self { curl, said, reader: Some(reader) }
    }

    /// How many requests have ended by now.
    pub(crate) fn asked(&self) -> usize {
        self.said.lock().expect("not poisoned").lines().count()
    }

    /// How it went until now: over the one connection, or something failed. `during` the flood so many had ended.
    pub(crate) fn end(mut self, during: usize) -> Asked {
        eventually("it has asked a few times", || self.asked() >= FEWEST);
        self.stop();
        if let Some(reader) = self.reader.take() {
            reader.join().expect("is read");
        }
        let said = self.said.lock().expect("not poisoned").clone();
        let (mut asked, mut connections) = (Asked { during, ..Asked::default() }, 0);
        // It may have been ended within a line.
        for line in said.rsplit_once('\n').map_or("", |(lines, _)| lines).lines() {
            let words: Vec<_> = line.split(' ').collect();
            match (words.as_slice(), words.get(1).and_then(|seconds| seconds.parse::<f64>().ok())) {
                (["200", _, opened], Some(seconds)) => {
                    asked.took.push(seconds * 1000.0);
                    connections += opened.parse::<usize>().unwrap_or(1);
                }
                _ => asked.failed.push(line.to_owned()),
            }
        }
        if connections != 1 {
            asked.failed.push(format!("{connections} connections in place of the one"));
        }
        asked
    }

    fn stop(&mut self) {
        // Already gone is as good.
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop();
    }
}
