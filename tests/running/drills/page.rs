//! A page of docs/drills, to which its test is held.

use std::{cell::RefCell, collections::BTreeSet, fs, path::Path, process::Stdio};

use crate::support::Site;

/// The page, its blanks made one each, and the commands that nobody has run yet.
pub(super) struct Page {
    text: String,
    commands: BTreeSet<String>,
    left: RefCell<BTreeSet<String>>,
}

/// What a command came to.
pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) output: String,
    /// The output, and what it said besides.
    pub(super) words: String,
}

impl Page {
    /// docs/drills/NAME.md. Alerts that it names have to be among those there are.
    pub(super) fn open(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |file: &str| {
            fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file} can't be read: {error}"))
        };
        let page = read(&format!("docs/drills/{name}.md"));
        let alerts = read("config/prometheus/alerts.yml");
        let named = page.split('`').skip(1).step_by(2).filter(|word| is_alert(word));
        for alert in named {
            assert!(alerts.lines().any(|line| line.trim() == format!("- alert: {alert}")), "there is no alert {alert}");
        }
        let lines = page.lines().map(str::trim_start);
        let commands: BTreeSet<String> =
            lines.filter(|line| line.starts_with("sealward ")).map(str::to_owned).collect();
        let text = page.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { text, left: RefCell::new(commands.clone()), commands }
    }

    /// `words`, which the page has.
    #[track_caller]
    pub(super) fn shows<'a>(&self, words: &'a str) -> &'a str {
        assert!(self.text.contains(words), "the page hasn't got: {words}");
        words
    }

    /// Runs a command of the page, for whom `sealward.toml` is that of `site`.
    #[track_caller]
    pub(super) fn run(&self, site: &Site, command: &str) -> Ran {
        assert!(self.commands.contains(command), "the page hasn't got the command: {command}");
        self.left.borrow_mut().remove(command);
        let config = site.path("sealward.toml").into_os_string();
        let args =
            command.split(' ').skip(1).map(|arg| if arg == "sealward.toml" { config.clone() } else { arg.into() });
        let ran = site.command().args(args).stdin(Stdio::null()).output().expect("starts");
        let output = String::from_utf8_lossy(&ran.stdout).into_owned();
        let words = format!("{output}{}", String::from_utf8_lossy(&ran.stderr));
        Ran { code: ran.status.code(), output, words }
    }

    /// The same, and it must go well: what it prints.
    #[track_caller]
    pub(super) fn does(&self, site: &Site, command: &str) -> String {
        let ran = self.run(site, command);
        assert_eq!(ran.code, Some(0), "{command}: {}", ran.words);
        ran.output
    }

    /// The page is at its end: there is no command on it that wasn't run.
    #[track_caller]
    pub(super) fn finished(self) {
        let left = self.left.into_inner();
        assert!(left.is_empty(), "nobody has run {left:?}");
    }
}

/// `SealwardDown` and the like.
fn is_alert(word: &str) -> bool {
    let name = word.strip_prefix("Sealward").unwrap_or_default();
    name.starts_with(|first: char| first.is_ascii_uppercase()) && name.chars().all(char::is_alphanumeric)
}
