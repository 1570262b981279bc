//! The command line as people and scripts meet it: the real binary, its words, files and exit codes.

#[allow(unreachable_pub)] // shared with binaries that name it otherwise
#[path = "../support/mod.rs"]
mod support;

mod check;
mod dev;
mod sealing;
mod tokens;
mod words;

use std::{
    ffi::OsStr,
    io::Write as _,
    process::{Output, Stdio},
};

/// What one run came to.
struct Ran {
    code: i32,
    out: Vec<u8>,
    words: String,
}

/// Runs `sealward` with `args`, and `input` on its standard input.
fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &[u8]) -> Ran {
    let mut child = support::sealward()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("is piped");
    let input = input.to_vec();
    // A command that refuses early may not read it all.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let Output { status, stdout, stderr } = child.wait_with_output().expect("ends");
    writing.join().expect("writes");
    let words = String::from_utf8(stderr).expect("is text");
    assert!(!words.contains("panicked"), "{words}");
    Ran { code: status.code().unwrap_or(-1), out: stdout, words }
}

impl Ran {
    /// Its output, where it succeeded.
    fn ok(self) -> Vec<u8> {
        assert_eq!(self.code, 0, "{}", self.words);
        self.out
    }

    fn text(self) -> String {
        String::from_utf8(self.ok()).expect("is text")
    }

    /// Its words, where it failed with `code` and printed nothing else.
    fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}", self.words);
        self.words
    }
}
