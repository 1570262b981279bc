//! What HTTP/2 has been abused for: heads without end, requests that are taken back, frames that
//! say nothing, and mistakes that the server must answer.

use std::thread;

use crate::{
    attackers::{Attacker, Toll},
    lab::{Lab, MEMORY},
    support::eventually,
};

/// Clients of one flood. Each has one connection at a time, and a last one that isn't ended when
/// all blows are spent.
const CLIENTS: u64 = 4;
const MOST: u64 = 20_000;
/// How long it may take; none takes it but on a busy machine.
const SECONDS: &str = "60";
const CALM: &str = "11";

fn attack(lab: &Lab, kind: &str, most: u64) -> Toll {
    lab.attack("http2", &[kind, &most.to_string(), SECONDS])
}

/// All at once, `MOST` blows of each, while others use the server.
fn attacks(lab: &Lab, name: &str, kinds: &[&'static str]) -> Vec<(&'static str, Toll)> {
    attacks_of(lab, name, kinds, MOST)
}

fn attacks_of(lab: &Lab, name: &str, kinds: &[&'static str], most: u64) -> Vec<(&'static str, Toll)> {
    lab.flooded(name, || {
        thread::scope(|scope| {
            let running: Vec<_> =
                kinds.iter().map(|kind| (*kind, scope.spawn(move || attack(lab, kind, most)))).collect();
            running.into_iter().map(|(kind, toll)| (kind, toll.join().expect("it has an end"))).collect()
        })
    })
}

/// Connection after connection was ended, for one of these `reasons`.
fn ended(kind: &str, toll: &Toll, reasons: &[&str]) {
    assert!(toll.ended_for(reasons) >= CLIENTS, "{kind}: {toll:?}");
    assert!(toll.open <= CLIENTS, "{kind}: {toll:?}");
}

/// CVE-2024-27316 and others like it.
#[test]
fn a_head_that_goes_on_and_on_ends_its_connection() {
    let lab = Lab::new("");
    let kinds = ["continuation", "continuation-small", "continuation-empty"];
    for (kind, toll) in attacks(&lab, "continuations", &kinds) {
        ended(kind, &toll, &[&format!("{CALM} too_many_continuations"), "closed"]);
    }
    for (kind, toll) in attacks(&lab, "header bombs", &["bomb"]) {
        ended(kind, &toll, &[&format!("{CALM} header_list_way_too_large"), "closed"]);
    }
    assert_eq!(lab.app.asked("/flood"), 0);
    lab.calm(MEMORY);
}

/// CVE-2023-44487.
#[test]
fn requests_that_are_taken_back_at_once_end_their_connection_and_reach_no_app() {
    let lab = Lab::new("");
    for (kind, toll) in attacks(&lab, "rapid resets", &["reset", "reset-upload"]) {
        ended(kind, &toll, &[&format!("{CALM} too_many_resets"), "closed"]);
    }
    let asked = lab.app.asked("/flood") + lab.app.asked("/sink");
    assert!(asked < 1000, "{asked} of 40,000 were sent on");
    lab.calm(MEMORY);
}

/// The same, by who waits for each request to begin: no more than a hundred are under way on one
/// connection, and yet the app works on as many as come.
#[test]
fn requests_that_are_taken_back_later_end_their_connection_too() {
    let (app, port) = Attacker::app();
    let forward =
        |path: &str| format!("[[route]]\npath = \"{path}\"\npublic = true\nforward = {{ upstream = \"late\" }}\n");
    let late = format!("[[upstream]]\nname = \"late\"\ntargets = [\"http://127.0.0.1:{port}\"]\n");
    let lab = Lab::with("", &[forward("/flood"), forward("/asked"), late].concat());
    let toll = lab.flooded("slow resets", || lab.attack("http2", &["reset-in-turns", &MOST.to_string(), "5"]));
    let asked: u64 = lab.site.curl_bare([lab.url("/asked")]).text().parse().expect("a number");
    let ended: u64 = toll.ended.values().sum();
    assert!(ended >= CLIENTS && toll.most < 1500, "{asked} requests went on to the app: {toll:?}");
    eventually("nothing is under way", || {
        lab.server.metric("sealward_upstream_requests_in_flight{upstream=\"late\"}") == 0.0
    });
    drop(app);
    lab.calm(MEMORY);
}

/// CVE-2019-9512, -9513 and -9515. Of these the server answers settings and pings, and counts
/// windows; it remembers nothing of priorities and of frames it doesn't know. They cost it no
/// more than their sender, as long as that one takes the answers.
#[test]
fn frames_that_say_little_leave_the_others_served() {
    let lab = Lab::new("send_idle_timeout = \"2s\"");
    for kinds in [["settings", "ping"], ["window", "window-of-stream"], ["priority", "unknown"]] {
        for (kind, toll) in attacks(&lab, &kinds.join(" and "), &kinds) {
            assert!(toll.sent >= MOST && toll.ended_for(&[]) == 0, "{kind}: {toll:?}");
        }
    }
    // More than buffers hold between them and us.
    let toll = lab.flooded("pings without a reader", || lab.attack("http2", &["ping-unread", "4000000", "12"]));
    assert!(toll.ended_for(&["closed"]) >= CLIENTS, "{toll:?}");
    assert!(lab.server.metric("sealward_connections_refused_total{reason=\"send_stall\"}") >= 1.0);
    lab.calm(MEMORY);
}

/// CVE-2019-9518.
#[test]
fn data_that_is_none_ends_its_connection() {
    let lab = Lab::new("");
    for (kind, toll) in attacks_of(&lab, "empty data", &["empty-data", "padded-data"], 5 * MOST) {
        ended(kind, &toll, &[&format!("{CALM} too_many_data_frames"), "closed"]);
    }
    // A byte is data: it goes on to the app.
    for (kind, toll) in attacks(&lab, "small data", &["small-data"]) {
        assert!(toll.sent >= MOST, "{kind}: {toll:?}");
    }
    lab.calm(MEMORY);
}

/// CVE-2025-8671.
#[test]
fn a_client_that_makes_the_server_reset_streams_is_sent_away() {
    let resets = format!("{CALM} too_many_internal_resets");
    let reasons = [resets.as_str(), "closed"];
    let lab = Lab::new("");
    for (kind, toll) in attacks(&lab, "made resets", &["overflow", "short-body", "depends-on-itself", "crowd"]) {
        ended(kind, &toll, &reasons);
    }
    // These are errors of the connection: the first ends it (PROTOCOL_ERROR).
    let kinds = ["no-increment", "data-after-end", "head-after-end", "malformed"];
    for (kind, toll) in attacks(&lab, "mistakes", &kinds) {
        ended(kind, &toll, &["1", "closed"]);
    }
    lab.calm(MEMORY);
}
