//! `dev`: starts with nothing, and what it prints works when pasted.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::sealward;

struct Dev {
    child: Child,
    /// The lines between the greeting and the data folder.
    greeting: Vec<String>,
}

impl Dev {
    fn start(folder: &Path) -> Self {
        #[allow(clippy::zombie_processes)] // the value that holds it waits when dropped
        let mut child = sealward()
            .args(["dev", "--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut greeting = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("is piped")).lines().map_while(Result::ok) {
            let last = line.trim_start().starts_with("data ");
            greeting.push(line);
            if last {
                return Self { child, greeting };
            }
        }
        panic!("it ended before its greeting did: {greeting:?}");
    }

    /// The lines to paste, in their order.
    fn lines(&self) -> Vec<&str> {
        let lines = self.greeting.iter().map(|line| line.trim());
        lines.filter(|line| line.contains("curl -K") || line.starts_with("od ")).collect()
    }

    fn metrics_url(&self) -> &str {
        self.greeting.iter().find_map(|line| line.trim().strip_prefix("metrics  ")).expect("says where metrics are")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pastes `line` into a shell.
fn paste(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().expect("sh is there");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

fn pasted_lines_work(dev: &Dev) {
    let lines = dev.lines();
    let [put, get, range, list, at_rest] = lines[..] else { panic!("{lines:?}") };
    assert!(put.contains("curl -K"), "{put}");
    paste(&format!("set -e; {put}"));
    assert_eq!(paste(get), "hello, sealed world\n");
    assert_eq!(paste(range), "sealed");
    assert!(paste(list).contains("\"key\":\"hello.txt\""));
    let at_rest = paste(at_rest);
    assert!(at_rest.contains("02 04 78") && !at_rest.contains("hello, sealed"), "{at_rest}");
    assert!(paste(&format!("curl -sS {}", dev.metrics_url())).contains("sealward_build_info"));
}

#[test]
fn it_starts_with_nothing_and_its_lines_work_when_pasted() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("data");
    let dev = Dev::start(&folder);
    for (name, wanted) in [
        ("", 0o700),
        ("tls", 0o700),
        ("tls/ca.pem", 0o644),
        ("tls/ca-key.pem", 0o600),
        ("tls/key.pem", 0o600),
        ("token", 0o600),
        ("tokens.json", 0o600),
        ("tokens.json.key", 0o600),
        ("curl.conf", 0o600),
        ("keyring.json", 0o600),
        ("objects", 0o700),
        ("sealward.toml", 0o600),
    ] {
        assert_eq!(mode(&folder.join(name)), wanted, "{name}");
    }
    let token = fs::read_to_string(folder.join("token")).expect("reads");
    assert!(token.starts_with("swd_") && token.trim() == token, "the bare token");
    assert!(fs::read_to_string(folder.join("curl.conf")).expect("reads").contains(&token));
    assert!(fs::read_to_string(folder.join("sealward.toml")).expect("reads").contains("127.0.0.1:0"));
    assert!(!dev.greeting.join("\n").contains(&token), "a screen is no place for a token");
    pasted_lines_work(&dev);
}

#[test]
fn a_second_start_finds_everything() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("data");
    let names = ["tls/ca.pem", "tls/cert.pem", "keyring.json", "token", "curl.conf", "sealward.toml", "tokens.json"];
    let read = || names.map(|name| fs::read(folder.join(name)).expect("reads"));
    let first = Dev::start(&folder);
    paste(first.lines()[0]);
    let before = read();
    drop(first);
    let second = Dev::start(&folder);
    assert!(read() == before, "nothing was made anew");
    assert_eq!(paste(second.lines()[1]), "hello, sealed world\n");
}

#[test]
fn a_lost_token_is_replaced_and_the_old_one_ends() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("data");
    let first = Dev::start(&folder);
    paste(first.lines()[0]);
    let old = fs::read_to_string(folder.join("token")).expect("reads");
    let old_conf = place.path().join("old.conf");
    fs::copy(folder.join("curl.conf"), &old_conf).expect("copies");
    drop(first);
    fs::remove_file(folder.join("token")).expect("removes");

    let second = Dev::start(&folder);
    assert_ne!(fs::read_to_string(folder.join("token")).expect("reads"), old);
    assert_eq!(paste(second.lines()[1]), "hello, sealed world\n");
    let url = second.lines()[1].split(' ').next_back().expect("a URL");
    let refused = paste(&format!("curl -sS -K {} -o /dev/null -w '%{{http_code}}' {url}", old_conf.display()));
    assert_eq!(refused, "401");
}

#[test]
fn a_folder_of_any_name_will_do() {
    for name in ["with spaces", "it's \"quoted\"", "back\\slash $HOME `id`", "ünï ${x}", "-dash #hash"] {
        let place = tempfile::tempdir().expect("a folder");
        let dev = Dev::start(&place.path().join(name));
        pasted_lines_work(&dev);
    }
}

#[test]
fn the_configuration_it_writes_is_good_to_start_from() {
    let place = tempfile::tempdir().expect("a folder");
    drop(Dev::start(place.path()));
    let path = place.path().join("sealward.toml");
    let words = crate::run(["check", "--online", "--config", path.to_str().expect("is text")], b"").text();
    assert!(words.contains("proved"), "{words}");
}

#[test]
fn two_at_once_in_one_folder_are_told_apart() {
    let place = tempfile::tempdir().expect("a folder");
    let _first = Dev::start(place.path());
    let folder = place.path().to_str().expect("is text");
    let words =
        crate::run(["dev", "--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", folder], b"").failed(1);
    assert!(words.contains("another Sealward holds"), "{words}");
}
