//! Clients that are slow on purpose, by `slowhttptest`.

use std::process::{Command, Stdio};

use crate::{
    lab::{Lab, MEMORY},
    support::{eventually, files_below, pattern},
};

/// Runs `slowhttptest` at `path` to its end; what it said.
fn slowhttptest(lab: &Lab, path: &str, args: &[&str]) -> String {
    let output = Command::new("slowhttptest")
        .args(args)
        // New connections a second; and how long its own probe waits for an answer.
        .args(["-r", "200", "-p", "10", "-u", &lab.url(path)])
        .current_dir(lab.site.folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("slowhttptest is there: `make test` sees to it");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("YES"), "its probe was answered: {said}");
    assert!(!said.contains("NO\u{1b}") && !said.contains("available:   NO"), "its probe was left waiting: {said}");
    said
}

/// How many requests were told that they took too long.
fn timeouts(lab: &Lab, method: &str) -> usize {
    let words = format!("\"method\":\"{method}\",\"status\":408,");
    lab.server.log().lines().filter(|line| line.contains(&words)).count()
}

#[test]
fn who_is_slow_with_a_head_is_cut() {
    let lab = Lab::new("header_timeout = \"2s\"");
    // A line a second, for longer than it is let.
    let said = lab.flooded("slow heads", || slowhttptest(&lab, "/", &["-H", "-c", "500", "-i", "1", "-l", "15"]));
    assert!(said.contains("No open connections left"), "{said}");
    lab.calm(MEMORY);
}

#[test]
fn who_is_slow_with_a_body_is_refused() {
    const EACH: usize = 200;
    let lab = Lab::new("body_idle_timeout = \"1s\"\nmin_body_rate = \"64KiB\"");
    let stored = files_below(&lab.site.objects());
    let slow = |path: &str, method: &str| {
        let many = EACH.to_string();
        let said = slowhttptest(&lab, path, &["-B", "-t", method, "-c", &many, "-s", "1000000", "-i", "1", "-l", "15"]);
        assert!(said.contains("No open connections left"), "{said}");
    };
    lab.flooded("slow bodies", || {
        std::thread::scope(|scope| {
            scope.spawn(|| slow("/sink", "POST"));
            slow("/drop/slow", "PUT");
        });
    });
    eventually("each upload is told", || timeouts(&lab, "PUT") >= EACH);
    eventually("each request to the app is told", || timeouts(&lab, "POST") >= EACH);
    assert_eq!(files_below(&lab.site.objects()), stored);
    lab.calm(MEMORY);
}

/// Who takes an answer by a few bytes a second holds what an answer holds, and no longer than it may.
#[test]
fn who_is_slow_to_take_an_answer_is_cut() {
    const EACH: u32 = 100;
    let lab = Lab::new("send_idle_timeout = \"2s\"");
    let large = pattern(8 << 20);
    lab.app.keep("large", &large);
    lab.site.put(&lab.server, "large", &large);
    let slow = |path: &str| {
        let many = EACH.to_string();
        slowhttptest(&lab, path, &["-X", "-c", &many, "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-l", "15"]);
    };
    lab.flooded("slow readers", || {
        std::thread::scope(|scope| {
            scope.spawn(|| slow("/data/large"));
            slow("/drop/large");
        });
    });
    let stalls = lab.server.metric("sealward_connections_refused_total{reason=\"send_stall\"}");
    assert_eq!(stalls, f64::from(2 * EACH));
    lab.calm(MEMORY);
}
