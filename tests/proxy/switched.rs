//! Connections that switch to another protocol: WebSocket, by Python's `websockets`.

use crate::{
    apps::{ask, said, serve, to},
    nginx::Nginx,
    peer::Peer,
    support::{Sealward, Site, eventually},
};

fn echo() -> (Peer, String) {
    let mut peer = Peer::start("websocket.py", ["serve"]);
    let url = format!("http://127.0.0.1:{}", peer.line());
    (peer, url)
}

fn talker(site: &Site, server: &Sealward, hold: bool) -> Peer {
    let url = format!("wss://localhost:{}/chat", server.https.port());
    let ca = site.path("tls/ca.pem").to_string_lossy().into_owned();
    let hold = hold.then(|| "hold".to_owned());
    Peer::start("websocket.py", ["talk".to_owned(), url, ca].into_iter().chain(hold))
}

#[test]
fn a_websocket_passes_both_ways() {
    let site = Site::new();
    let (_echo, url) = echo();
    let server = serve(&site, &to(&[url], ""));
    let talk = talker(&site, &server, false);
    assert_eq!(talk.ended().trim(), "good");
    server.wait_for_line(|line| line.contains("\"status\":101"));
    eventually("nothing is under way", || {
        server.metric("sealward_upstream_requests_in_flight{upstream=\"app\"}") == 0.0
    });
    eventually("nothing is open", || server.metric("sealward_connections{state=\"serving\"}") == 0.0);
}

#[test]
fn an_idle_one_ends_and_a_second_word_to_stop_cuts() {
    let site = Site::new();
    let (_echo, url) = echo();
    let server = serve(&site, &to(std::slice::from_ref(&url), "idle_timeout = \"3s\""));
    let mut idle = talker(&site, &server, true);
    assert_eq!(idle.line(), "open");
    idle.ended();
    drop(server);

    let mut server = serve(&site, &to(&[url], ""));
    let mut held = talker(&site, &server, true);
    assert_eq!(held.line(), "open");
    assert_eq!(server.metric("sealward_upstream_requests_in_flight{upstream=\"app\"}"), 1.0);
    server.signal("TERM");
    server.wait_for_line(|line| line.contains("told to stop:"));
    server.signal("TERM");
    assert!(server.wait().success());
    held.ended();
}

#[test]
fn an_app_that_doesnt_switch_answers_as_ever() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let server = serve(&site, &to(&[app.url()], ""));
    let wants = ["--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"];
    assert_eq!(ask(&site, &server, "/", &wants).status, 200);
    // Nor is HTTP another protocol: a client would speak to the app past us.
    for http in ["h2c", "h2c, websocket", "websocket, h2c", "h2c,", "HTTP/2.0", "h2"] {
        let upgrade = format!("Upgrade: {http}");
        let wants = ["--http1.1", "-H", "Connection: Upgrade", "-H", upgrade.as_str(), "-H", "HTTP2-Settings: AAA"];
        let answer = ask(&site, &server, "/", &wants);
        assert_eq!((answer.status, said(&answer, "connection").as_str()), (200, ""), "{http}: {answer:?}");
    }
}
