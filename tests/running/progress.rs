//! Bars: on a terminal there is one, in a pipe there is none.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::{Site, sealward};

/// Runs our program with a terminal for its standard error, and gives what that showed.
///
/// Python's `pty` makes the terminal; nothing of ours needs one.
const IN_A_TERMINAL: &str = "
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
";

fn on_a_terminal(site: &Site, args: &[&str]) -> String {
    let output = Command::new("python3")
        .args(["-c", IN_A_TERMINAL])
        .arg(sealward().get_program())
        .args(args)
        .current_dir(site.folder.path())
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .expect("python3 is there: `make test` sees to it");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn in_a_pipe(site: &Site, args: &[&str]) -> Output {
    let output = sealward().args(args).current_dir(site.folder.path()).output().expect("starts");
    assert!(output.status.success(), "{output:?}");
    output
}

fn sparse(path: &Path, bytes: u64) {
    std::fs::File::create(path).expect("creates").set_len(bytes).expect("grows");
}

#[test]
fn sealing_and_opening_show_how_far_they_are_to_eyes_alone() {
    let site = Site::new();
    sparse(&site.path("plain"), 64 << 20);
    let seal = ["seal", "--keyring", "keyring.json", "plain", "-o", "sealed"];
    let open = ["open", "--keyring", "keyring.json", "sealed", "-o", "opened"];
    let shown = on_a_terminal(&site, &seal);
    assert!(shown.contains("of 64.00 MiB"), "{shown:?}");
    let shown = on_a_terminal(&site, &open);
    // 256 frames more than the plaintext, of 32 bytes each, and a header.
    assert!(shown.contains("of 64.01 MiB"), "{shown:?}");
    assert_eq!(std::fs::metadata(site.path("opened")).expect("is there").len(), 64 << 20);
    for args in [seal, open] {
        let output = in_a_pipe(&site, &args);
        assert!(output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn what_goes_over_a_class_shows_its_counts_to_eyes_alone() {
    let site = Site::new();
    let server = site.serve("", "");
    for name in ["a", "b", "c"] {
        site.put(&server, name, b"something");
    }
    assert_eq!(server.stop().code(), Some(0));
    std::fs::create_dir(site.path("plain")).expect("creates");
    std::fs::write(site.path("plain/d"), b"else").expect("writes");
    let verify = ["verify", "--config", "sealward.toml", "--class", "records"];
    let reencrypt = ["reencrypt", "--config", "sealward.toml", "--class", "records"];
    let adopt = ["adopt", "--config", "sealward.toml", "--class", "records", "--from", "plain"];
    for (args, verb) in [(&verify[..], "whole"), (&reencrypt, "sealed anew"), (&adopt, "adopted")] {
        let shown = on_a_terminal(&site, args);
        assert!(shown.contains(" done, ") && shown.contains(" failed, "), "{shown:?}");
        assert!(shown.contains(verb), "{shown:?}");
        let output = in_a_pipe(&site, args);
        let (out, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(out.lines().count() == 1 && out.contains(verb), "{output:?}");
        assert!(!words.contains(" done, "), "{words}");
    }
}
