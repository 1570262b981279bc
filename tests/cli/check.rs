//! `check`: would it start?

use std::fs;

use crate::{run, support::Site};

fn written(site: &Site, text: &str) -> String {
    let path = site.path("sealward.toml");
    fs::write(&path, text).expect("writes");
    path.to_str().expect("is text").to_owned()
}

#[test]
fn a_good_file_is_told_so() {
    let site = Site::new();
    let path = written(&site, &Site::config("", ""));
    let words = run(["check", "--config", &path], b"").text();
    assert!(words.contains("reads well") && words.contains("1 listener, 1 class, 1 route"), "{words}");
    assert!(!site.objects().exists(), "it opens nothing");
}

#[test]
fn the_documented_file_is_good() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/sealward.toml");
    run(["check", "--config", path], b"").ok();
}

#[test]
fn every_fault_is_named_in_one_go_with_its_line() {
    let site = Site::new();
    let mut text = Site::config("vualt = \"x\"\nframe_length = \"5KiB\"", "");
    text.push_str("[limits]\nuploads = 0\nidle_timeout = \"60\"\nbuffer_memory = \"1MiB\"\n");
    text = text.replace("seal = { class = \"records\" }", "seal = { class = \"record\" }");
    let path = written(&site, &text);
    let words = run(["check", "--config", &path], b"").failed(2);
    for wrong in ["vualt", "5KiB", "uploads = 0", "\"60\"", "1MiB", "\"record\""] {
        let line = text.lines().position(|line| line.contains(wrong)).expect("is there") + 1;
        let place = format!("sealward.toml:{line}:");
        assert!(words.contains(&place), "{wrong}: no {place} in\n{words}");
    }
    assert!(words.contains("6 faults"), "{words}");
    assert!(words.matches("help").count() >= 6, "each with a mend:\n{words}");
    assert!(!words.contains('\u{1b}'), "no colour in a pipe");
}

#[test]
fn online_proves_what_the_file_names() {
    let site = Site::new();
    let path = written(&site, &Site::config("", ""));
    let words = run(["check", "--online", "--config", &path], b"").text();
    assert!(words.contains("proved"), "{words}");
    fs::remove_file(site.path("keyring.json")).expect("removes");
    run(["check", "--config", &path], b"").ok();
    let words = run(["check", "--online", "--config", &path], b"").failed(2);
    assert!(words.contains("keyring.json"), "{words}");
}

#[test]
fn online_finds_every_fault_in_one_go() {
    let site = Site::new();
    let path = written(&site, &Site::config("", ""));
    fs::remove_file(site.path("keyring.json")).expect("removes");
    fs::remove_file(site.path("tokens.json.key")).expect("removes");
    let words = run(["check", "--online", "--config", &path], b"").failed(2);
    assert!(words.contains("get its keys") && words.contains("keyring.json"), "{words}");
    assert!(words.contains("the file of tokens"), "{words}");
    assert!(words.contains("2 of "), "{words}");
}

#[test]
fn online_beside_a_running_server_says_who_holds_the_folder() {
    let site = Site::new();
    let _server = site.serve("", "");
    let path = site.path("sealward.toml");
    let words = run(["check", "--online", "--config", path.to_str().expect("is text")], b"").failed(2);
    assert!(words.contains("another Sealward holds"), "{words}");
}

#[test]
fn no_file_is_a_fault_of_its_own() {
    let words = run(["check", "--config", "nowhere.toml"], b"").failed(2);
    assert!(words.contains("nowhere.toml"), "{words}");
}
