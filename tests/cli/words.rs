//! Help, versions, completions, and what is said of arguments that are none.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use crate::run;

#[test]
fn help_teaches_every_command() {
    let help = run(["--help"], b"").text();
    for command in
        ["dev", "serve", "check", "seal", "open", "inspect", "reencrypt", "verify", "adopt", "token", "completions"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{command}:\n{help}");
        let own = run([command, "--help"], b"").text();
        assert!(own.contains("Usage: sealward "), "{own}");
    }
    let version = run(["--version"], b"").text();
    assert_eq!(version.trim(), format!("sealward {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_parse() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(!run(["completions", shell], b"").ok().is_empty(), "{shell}");
    }
    let script = run(["completions", "bash"], b"").ok();
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash is there");
    bash.stdin.take().expect("is piped").write_all(&script).expect("is read");
    assert!(bash.wait().expect("ends").success());
}

#[test]
fn wrong_arguments_exit_2_with_a_hint() {
    assert!(run(["serv"], b"").failed(2).contains("serve"));
    assert!(run(["serve"], b"").failed(2).contains("--config"));
    assert!(run(["seal"], b"").failed(2).contains("--keyring"));
    assert!(run(["dev", "--bind", "nowhere"], b"").failed(2).contains("nowhere"));
    run(Vec::<&str>::new(), b"").failed(2);
}

#[test]
fn a_pipe_closed_early_is_no_panic() {
    for args in [&["--help"][..], &["completions", "bash"]] {
        let (read, write) = std::io::pipe().expect("a pipe");
        drop(read);
        let output = crate::support::sealward().args(args).stdout(write).output().expect("runs");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!words.contains("panicked"), "{args:?}: {words}");
    }
}
