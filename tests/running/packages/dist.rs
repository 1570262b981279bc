//! What a release consists of: the archive, the list of what is in it, checksums; and Debian's
//! package, which is installed on a machine of its own, serves, and goes away again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use super::{
    binary, program, refused, said, serves, sources,
    units::{Activated, Manager},
};
use crate::{
    standin::script,
    support::{Site, free_port},
};

/// The folder of a release, made once for all that look into it.
fn release() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dist");
        let mut make = program(sources("config/dist.sh"));
        make.env("CARGO_DEB", tool("cargo-deb")).env("CARGO_CYCLONEDX", tool("cargo-cyclonedx"));
        // Fast, since nobody keeps it.
        said(make.arg(binary()).arg(&folder).arg("--fast"));
        folder
    })
}

/// What `make test` builds below the target folder, unless it is on PATH; config/dist.sh names one
/// that is nowhere.
fn tool(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("below the target folder");
    let path = target.join("tools/bin").join(name);
    if path.exists() { path } else { PathBuf::from(name) }
}

/// The one file of the release whose name begins and ends so.
fn file(begin: &str, end: &str) -> PathBuf {
    let names = fs::read_dir(release()).expect("reads").map(|entry| entry.expect("reads").path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.starts_with(begin) && name.ends_with(end)
    };
    let found: Vec<PathBuf> = names.filter(fits).collect();
    assert_eq!(found.len(), 1, "{begin}…{end}: {found:?}");
    found.into_iter().next().expect("one")
}

/// A machine of Debian's, as a folder.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn command(&self, job: &str) -> Command {
        let mut command = program(script("deb.sh"));
        command.arg(job).arg(&self.root);
        command
    }

    fn make(root: PathBuf) -> Self {
        let machine = Self { root };
        said(machine.command("make").arg(binary()));
        machine
    }

    fn dpkg(&self, args: &[&str]) -> String {
        said(self.command("dpkg").args(args))
    }

    /// A file of the machine's, for the package's user alone.
    fn put(&self, from: &Path, path: &str) {
        let input = fs::File::open(from).expect("opens");
        said(self.command("put").arg(path).stdin(Stdio::from(input)));
    }

    /// A program of the machine's, as the package's user.
    fn run(&self, args: &[&str]) -> String {
        said(self.command("run").args(args))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// All that is there of ours, from the machine's root.
    fn ours(&self) -> BTreeSet<String> {
        let found = said(program("find").arg(&self.root).args(["-not", "-type", "d", "-printf", "%P\n"]));
        found
            .lines()
            .filter(|path| path.contains("sealward") && !path.starts_with("var/lib/dpkg/"))
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn a_release_is_what_its_checksums_say() {
    let folder = tempfile::tempdir().expect("a folder");
    said(program("cp").arg("-r").arg(release()).arg(folder.path().join("dist")));
    let here = folder.path().join("dist");
    let check = || {
        let mut check = program("sha256sum");
        check.args(["--check", "--strict", "SHA256SUMS"]).current_dir(&here);
        check
    };
    let checked = said(&mut check());
    let listed = fs::read_dir(&here).expect("reads").count();
    assert_eq!((checked.lines().count(), listed), (3, 4), "{checked}");
    let archive = here.join(file("sealward-", ".tar.gz").file_name().expect("a name"));
    let mut bytes = fs::read(&archive).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).expect("writes");
    assert!(refused(&mut check()).contains("1 computed checksum did NOT match"));
}

#[test]
fn the_archive_holds_a_program_that_runs_its_manual_completions_and_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let unpack = ["--strip-components=1", "--extract", "--gzip", "--directory"];
    said(program("tar").args(unpack).arg(folder.path()).arg("--file").arg(file("sealward-", ".tar.gz")));
    let at = |path: &str| folder.path().join(path);
    let version = said(program(at("bin/sealward")).arg("--version"));
    assert_eq!(version.trim(), concat!("sealward ", env!("CARGO_PKG_VERSION")));
    // A page for each command that the help names.
    let help = said(program(at("bin/sealward")).arg("--help"));
    let commands = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("commands");
    let names = commands.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let pages: Vec<String> = names.map(|name| format!("sealward-{name}")).chain(["sealward".to_owned()]).collect();
    assert!(pages.len() > 10, "{help}");
    for page in pages {
        let path = at(&format!("share/man/man1/{page}.1.gz"));
        let text = said(program("gzip").args(["--decompress", "--stdout"]).arg(&path));
        assert!(text.contains(&format!(".TH {page} 1")), "{page}: {text}");
    }
    // bash loads it, and knows what it is for.
    let completion = at("share/bash-completion/completions/sealward");
    let loaded = said(program("bash").args(["-euc", "source \"$0\"; complete -p sealward"]).arg(completion));
    assert!(loaded.contains("_sealward"), "{loaded}");
    for shell in ["share/zsh/site-functions/_sealward", "share/fish/vendor_completions.d/sealward.fish"] {
        assert!(fs::read_to_string(at(shell)).expect("reads").contains("reencrypt"), "{shell}");
    }
    let unit = fs::read_to_string(at("lib/systemd/system/sealward.service")).expect("reads");
    assert!(unit.contains("ExecStart=/usr/local/bin/sealward serve "), "{unit}");
    assert!(at("lib/systemd/system/sealward.socket").is_file() && at("lib/sysusers.d/sealward.conf").is_file());
    for example in ["sealward.toml", "sealward-apps.toml", "sealward-aws.toml", "sealward-certificates.toml"] {
        let there = fs::read(at(&format!("share/doc/sealward/examples/{example}"))).expect("reads");
        assert_eq!(there, fs::read(sources("config").join(example)).expect("reads"), "{example}");
    }
    // What to begin with.
    let begin = fs::read(at("share/doc/sealward/examples/sealward-debian.toml")).expect("reads");
    assert_eq!(begin, fs::read(sources("config/debian/sealward.toml")).expect("reads"));
}

#[test]
fn the_list_of_what_is_in_it_has_every_crate_with_its_version_and_no_path_of_this_machine() {
    let text = fs::read_to_string(file("sealward-", ".cdx.json")).expect("reads");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((list["bomFormat"].as_str(), list["specVersion"].as_str()), (Some("CycloneDX"), Some("1.5")));
    assert_eq!(list["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
    let field = |component: &Value, name: &str| component[name].as_str().unwrap_or_default().to_owned();
    let components = list["components"].as_array().expect("components");
    let named: BTreeSet<(String, String)> =
        components.iter().map(|component| (field(component, "name"), field(component, "version"))).collect();
    let lock = fs::read_to_string(sources("Cargo.lock")).expect("reads");
    for name in ["aws-lc-rs", "hyper", "rustls", "sqlx-core", "tokio"] {
        let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{name}\"\n")));
        let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next()).expect("a version");
        assert!(named.contains(&(name.to_owned(), version.to_owned())), "{name} {version} isn't listed");
    }
    // What only tests need isn't in it.
    assert!(!named.iter().any(|(name, _)| name == "proptest"));
    let licensed = components.iter().filter(|component| component["licenses"].is_array()).count();
    assert!(licensed * 10 > components.len() * 9, "{licensed} of {} have a licence", components.len());
    for path in [env!("CARGO_MANIFEST_DIR"), "file:///", "file%3A%2F%2F%2F"] {
        assert!(!text.contains(path), "it names {path}…");
    }
}

#[test]
fn a_package_is_installed_serves_and_goes_away_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let machine = Machine::make(folder.path().join("machine"));
    let package = file("sealward_", ".deb");
    let package = package.to_str().expect("is text");
    assert_eq!(machine.ours(), BTreeSet::new());
    machine.dpkg(&["-i", package]);
    assert!(machine.dpkg(&["-s", "sealward"]).contains("Status: install ok installed"));
    let installed = machine.ours();
    for path in [
        "usr/bin/sealward",
        "usr/lib/systemd/system/sealward.service",
        "usr/lib/systemd/system/sealward.socket",
        "usr/lib/sysusers.d/sealward.conf",
        "usr/share/man/man1/sealward.1.gz",
        "usr/share/bash-completion/completions/sealward",
        "usr/share/zsh/vendor-completions/_sealward",
        "usr/share/fish/vendor_completions.d/sealward.fish",
        "usr/share/doc/sealward/copyright",
        "usr/share/doc/sealward/README.Debian",
        "usr/share/doc/sealward/examples/sealward-aws.toml",
        "etc/sealward/sealward.toml",
    ] {
        assert!(installed.contains(path), "{path} isn't in {installed:#?}");
    }
    let users = fs::read_to_string(machine.path("/etc/passwd")).expect("reads");
    assert!(users.contains("sealward:") && users.contains("nologin"), "{users}");

    // The first steps, as README.Debian has them; but no test has this machine's port 443.
    let (site, port) = (Site::new(), free_port());
    machine.put(&site.path("tls/cert.pem"), "/etc/sealward/tls/server.pem");
    machine.put(&site.path("tls/key.pem"), "/etc/sealward/tls/server-key.pem");
    machine.put(&keyring(&site), "/var/lib/sealward/keyring.json");
    let config = machine.path("/etc/sealward/sealward.toml");
    let text = fs::read_to_string(&config).expect("reads");
    assert!(text.contains("bind = \"[::]:443\"") && text.contains("bind = \"127.0.0.1:9464\""), "{text}");
    let text = text.replace("[::]:443", &format!("127.0.0.1:{port}")).replace("127.0.0.1:9464", "127.0.0.1:0");
    fs::write(&config, &text).expect("writes");
    let named = ["--config", "/etc/sealward/sealward.toml"];
    let token = machine.run(&[&["/usr/bin/sealward", "token", "new", "ops"], &named[..]].concat());
    let site = Site { token: token.trim().to_owned(), ..site };
    machine.run(&[&["/usr/bin/sealward", "check", "--online"], &named[..]].concat());

    let unit = fs::read_to_string(machine.path("/usr/lib/systemd/system/sealward.service")).expect("reads");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a program");
    let deb = script("deb.sh");
    let root = machine.root.to_str().expect("is text");
    let command: Vec<&str> =
        [deb.to_str().expect("is text"), "run", root].into_iter().chain(start.split(' ')).collect();
    let manager = Manager::at(&machine.path("/run/notify"));
    said(program("chmod").arg("0666").arg(machine.path("/run/notify")));
    let server = Activated::by(port, "/run/notify", &command);
    serves(&site, &format!("https://127.0.0.1:{port}/files/object"));
    manager.hears("READY=1");
    server.signal("TERM");
    manager.hears("STOPPING=1");
    server.ends();

    // Another of the same leaves alone what the administrator wrote.
    machine.dpkg(&["-i", package]);
    assert_eq!(fs::read_to_string(&config).expect("reads"), text);

    machine.dpkg(&["-r", "sealward"]);
    let left = machine.ours();
    assert!(left.contains("etc/sealward/sealward.toml"), "{left:#?}");
    assert!(
        left.iter().all(|path| path.starts_with("etc/sealward/") || path.starts_with("var/lib/sealward/")),
        "{left:#?}"
    );

    machine.dpkg(&["-P", "sealward"]);
    let left = machine.ours();
    assert!(!left.contains("etc/sealward/sealward.toml"), "{left:#?}");
    // What nobody could make again stays: objects, what opens them, who may call.
    for kept in
        ["var/lib/sealward/keyring.json", "var/lib/sealward/tokens.json", "var/lib/sealward/objects/object.sealed"]
    {
        assert!(left.contains(kept), "{kept} went with the package: {left:#?}");
    }
    assert!(
        left.iter().all(|path| path.starts_with("etc/sealward/tls/") || path.starts_with("var/lib/sealward/")),
        "{left:#?}"
    );
}

#[test]
fn systemd_is_told_of_an_install_an_upgrade_and_a_removal_and_its_faults_hold_up_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let machine = Machine::make(folder.path().join("machine"));
    machine.dpkg(&["-i", file("sealward_", ".deb").to_str().expect("is text")]);
    // What dpkg gives the scripts, and what they call; each call but the one for users fails.
    let (users, reload) = ("systemd-sysusers sealward.conf", "systemctl --system daemon-reload");
    let stop = "deb-systemd-invoke stop sealward.socket sealward.service";
    let disable = "systemctl --quiet disable sealward.socket sealward.service";
    let steps: [(&[&str], &[&str]); 7] = [
        (&["postinst", "configure", ""], &[users, reload]),
        (&["prerm", "upgrade", "0.2.0-1"], &[]),
        (&["postrm", "upgrade", "0.2.0-1"], &[reload]),
        (&["postinst", "configure", "0.1.0-1"], &[users, reload, "deb-systemd-invoke try-restart sealward.service"]),
        (&["prerm", "remove"], &[stop, disable]),
        (&["postrm", "remove"], &[reload]),
        (&["postrm", "purge"], &[reload]),
    ];
    for (script, expected) in steps {
        let called = said(machine.command("live").args(script));
        assert_eq!(called.lines().collect::<Vec<_>>(), expected, "{script:?}");
    }
}

#[test]
fn a_package_that_was_never_used_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let machine = Machine::make(folder.path().join("machine"));
    machine.dpkg(&["-i", file("sealward_", ".deb").to_str().expect("is text")]);
    machine.dpkg(&["-P", "sealward"]);
    assert_eq!(machine.ours(), BTreeSet::new());
    assert!(!machine.path("/etc/sealward").exists() && !machine.path("/var/lib/sealward").exists());
}

/// A keyring by the words of README.Debian.
fn keyring(site: &Site) -> PathBuf {
    let readme = fs::read_to_string(sources("config/debian/README.Debian")).expect("reads");
    let words = readme.split("sh -c '").nth(1).and_then(|rest| rest.split("'\n").next()).expect("a command");
    let folder = site.path("made");
    fs::create_dir(&folder).expect("makes");
    said(program("sh").args(["-c", words]).current_dir(&folder));
    folder.join("keyring.json")
}
