//! A Sealward with a catalogue, and what every test asks of one: objects put and listed,
//! records by the command line, figures, an end by SIGKILL and another start.

use std::{
    cell::Cell,
    ffi::OsStr,
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use serde_json::{Value, json};

use crate::{
    servers::{DATABASE, Database},
    standin::text,
    support::{Answer, Sealward, Site},
};

/// The caller that the site's token is of, as `--by` has it.
pub(crate) const CALLER: &str = "tester";
/// The key of the site's keyring, as `--key` has it.
pub(crate) const KEY: &str = "key-1";

/// A site, its configuration, and the Sealward that may run there. The class is `records`,
/// behind `/files/`.
pub(crate) struct Lab {
    pub(crate) site: Site,
    config: String,
    server: Option<Sealward>,
}

/// `[catalog]` for `user` of `database`, over TLS: further lines of the section may follow.
pub(crate) fn at(database: &dyn Database, user: &str, password: &str) -> String {
    // What an address of its kind begins with; a secret says `mariadb`.
    let url = database.url(user, password, DATABASE).replace("mariadb://", "mysql://");
    format!("url = \"{url}\"\n{}", tls(database))
}

/// `[catalog]` for whomever the secret `database` names: see [`rds`] and [`secret`].
pub(crate) fn by_secret(database: &dyn Database) -> String {
    format!("secret = \"database\"\n{}", tls(database))
}

/// What RDS writes in a secret, for `user` of `database`.
pub(crate) fn rds(database: &dyn Database, user: &str, password: &str) -> Value {
    json!({
        "engine": database.engine(),
        "host": "localhost",
        "port": database.port(),
        "username": user,
        "password": password,
        "dbname": DATABASE,
    })
}

/// The section of the secret `database`, which is `name` of Secrets Manager and looked at
/// every `refresh`. The site must be one of `SecretsManager::site`.
pub(crate) fn secret(name: &str, refresh: &str) -> String {
    format!("[[secret]]\nname = \"database\"\nsource = {{ secrets_manager = \"{name}\" }}\nrefresh = \"{refresh}\"\n")
}

/// Has `clients` threads do `work` until `change` has returned, or has panicked. Each is told
/// its number, and what says whether it goes on; what they come to is given back.
pub(crate) fn meanwhile<T: Send>(
    clients: usize,
    work: impl Fn(usize, &dyn Fn() -> bool) -> T + Sync,
    change: impl FnOnce(),
) -> Vec<T> {
    thread::scope(|scope| {
        // Held by this thread alone, so that it is gone however this ends.
        let going = Arc::new(());
        let working: Vec<_> = (0..clients)
            .map(|client| {
                let (work, going) = (&work, Arc::downgrade(&going));
                scope.spawn(move || work(client, &|| going.strong_count() > 0))
            })
            .collect();
        change();
        drop(going);
        working.into_iter().map(|client| client.join().expect("what it asked went well")).collect()
    })
}

impl Lab {
    /// A folder of its own with the usual class in it, and `catalog` as the lines of
    /// `[catalog]`. Nothing is started yet.
    pub(crate) fn new(catalog: &str) -> Self {
        Self::on(Site::new(), catalog)
    }

    /// The same on a site that is there, such as one of Secrets Manager.
    pub(crate) fn on(site: Site, catalog: &str) -> Self {
        Self::of(site, &Site::config("", ""), catalog)
    }

    /// The same with a configuration of one's own, whole but for its catalogue, such as
    /// `standin::under_kms` gives.
    pub(crate) fn of(site: Site, config: &str, catalog: &str) -> Self {
        let lab = Self { site, config: format!("{config}\n[catalog]\n{catalog}\n"), server: None };
        lab.write();
        lab
    }

    /// With `lines` in the class too.
    pub(crate) fn class(self, lines: &str) -> Self {
        let name = "name = \"records\"\n";
        self.with(name, &format!("{name}{lines}\n"))
    }

    /// With `sections` at the end: each has its head.
    pub(crate) fn rest(self, sections: &str) -> Self {
        let config = format!("{}{sections}\n", self.config);
        Self { config, ..self }.written()
    }

    /// With `by` in place of `what`, which must be there.
    pub(crate) fn with(self, what: &str, by: &str) -> Self {
        assert!(self.config.contains(what), "no `{what}` in {}", self.config);
        let config = self.config.replacen(what, by, 1);
        Self { config, ..self }.written()
    }

    /// And it serves.
    pub(crate) fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Has it serve, for the first time or again; its ports are others each time.
    pub(crate) fn start(&mut self) {
        self.server = Some(self.site.serve_text(&self.config));
    }

    /// The one that runs.
    pub(crate) fn server(&self) -> &Sealward {
        self.server.as_ref().expect("it runs")
    }

    /// SIGKILL, and the end. What it has logged goes with it.
    pub(crate) fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    /// SIGKILL, and a start in the same folder.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// Uploads `bytes` as `name`, whatever comes of it. Names are as addresses have them.
    pub(crate) fn try_put(&self, name: &str, bytes: &[u8]) -> Answer {
        // Several may do so at once.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let file = self.site.path(&format!("upload-{}", NEXT.fetch_add(1, Relaxed)));
        fs::write(&file, bytes).expect("writes");
        let answer = self.site.curl(["-T".as_ref(), file.as_os_str(), self.server().url(name).as_ref()]);
        fs::remove_file(file).expect("removes");
        answer
    }

    /// The same, and it must be taken.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Answer {
        let answer = self.try_put(name, bytes);
        assert!(matches!((answer.status, answer.exit), (200 | 201, 0)), "PUT {name}: {answer:?}");
        answer
    }

    /// Downloads `name`, whatever comes of it.
    pub(crate) fn get(&self, name: &str) -> Answer {
        self.site.get(self.server(), name)
    }

    /// Removes `name`, whatever comes of it.
    pub(crate) fn remove(&self, name: &str) -> Answer {
        self.site.curl(["-X", "DELETE", &self.server().url(name)])
    }

    /// What the class holds as HTTP tells it, which must go well; `query` goes on after `?list`.
    pub(crate) fn list(&self, query: &str) -> Value {
        let answer = self.get(&format!("?list{query}"));
        assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
        answer.json()
    }

    /// What the metric `name` counts: the sum of all its series that have these labels, and 0
    /// where there is none.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        self.values(name, labels).iter().map(|value| value.parse::<usize>().expect("a whole number")).sum()
    }

    /// Runs the `command` of `sealward` with this configuration, to its end.
    pub(crate) fn cli<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Output {
        let mut cli = self.site.command();
        cli.args(command).arg("--config").arg(self.file()).stdin(Stdio::null()).output().expect("starts")
    }

    /// What `sealward objects` finds with `args` besides, newest first; of all where these set no limit.
    pub(crate) fn objects(&self, args: &[&str]) -> Vec<Value> {
        let all: &[&str] = if args.contains(&"--limit") { &[] } else { &["--limit", "1000000"] };
        let output = self.cli([&["objects", "--json"], all, args].concat());
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {words}", output.status);
        let lines = String::from_utf8(output.stdout).expect("is text");
        lines.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect()
    }

    /// The names of everything that `sealward objects` finds, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let objects = self.objects(&[]).into_iter();
        let mut names: Vec<String> = objects.map(|object| text(&object["name"])).collect();
        names.sort_unstable();
        names
    }

    /// Waits until the one that runs has logged `words` so many times.
    pub(crate) fn wait_for_words(&self, words: &str, times: usize) {
        let seen = Cell::new(0);
        self.server().wait_for_line(|line| {
            seen.set(seen.get() + usize::from(line.contains(words)));
            seen.get() == times
        });
    }

    /// The file that holds the configuration.
    pub(crate) fn file(&self) -> PathBuf {
        self.site.path("sealward.toml")
    }

    /// What stands behind each series of the metric `name` that has these labels.
    fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<String> {
        let metrics = self.server().metrics();
        let values = metrics.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, its) = series.split_once('{').unwrap_or((series, "}"));
            let its = format!(",{its}");
            let all = labels.iter().all(|(label, value)| its.contains(&format!(",{label}=\"{value}\"")));
            (found == name && all).then(|| value.to_owned())
        });
        values.collect()
    }

    fn written(self) -> Self {
        self.write();
        self
    }

    /// For the command line, which may be asked before anything serves.
    fn write(&self) {
        fs::write(self.file(), &self.config).expect("writes");
    }
}

fn tls(database: &dyn Database) -> String {
    format!("tls = {{ roots = \"{}\" }}\n", database.ca().display())
}
