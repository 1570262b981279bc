//! What must stand in no line of the log, however much is logged.

use sealward::identity::Action;

use crate::{
    client::{BOTH, Raw, bearer, file, piped, token, upload},
    support::{Answer, Sealward, Site, files_below, secret_half},
};

const BODY: &str = "MARKER-of-the-body";
const LABEL: &str = "MARKER-of-a-label";
const TYPE: &str = "text/marker-of-the-type";
const NAME: &str = "marker-of-the-name";
const FILE: &str = "marker-of-the-file.txt";

fn serve(site: &Site, object_keys: &str) -> Sealward {
    let text = Site::config("", &format!("object_keys = \"{object_keys}\""));
    assert!(text.contains("level = \"debug\""));
    site.serve_text(&text.replace("level = \"debug\"", "level = \"trace\""))
}

/// Waits until the request of `answer` is in the log, and with it all before.
fn logged(server: &Sealward, answer: &Answer) -> String {
    let id = answer.header("x-request-id").to_owned();
    assert_eq!(id.len(), 36, "{answer:?}");
    server.wait_for_line(|line| line.contains(&id) && line.contains("sealward::request"))
}

/// Everything that can be done, and goes wrong, with markers wherever a client
/// can put one; returns what else must not be told.
fn traffic(site: &Site, server: &Sealward) -> Vec<String> {
    let mut secrets = vec![site.token.clone(), secret_half(&site.token).to_owned()];
    let keyring: serde_json::Value =
        serde_json::from_slice(&std::fs::read(site.path("keyring.json")).expect("reads")).expect("is JSON");
    secrets.push(keyring["wrapping_key"].as_str().expect("a key").to_owned());
    let wrong = format!("{}MARKERmarkerMARKERmarkerMARKERmarkerMARKER1", &site.token[..17]);
    secrets.push("MARKERmarkerMARKER".into());
    let label = format!("x-amz-meta-label: {LABEL}");
    let kind = format!("Content-Type: {TYPE}");
    let form = format!("f=@{};filename={FILE}", file(site, BODY.as_bytes()).display());
    let url = server.url(NAME);
    let mut last = None;
    for version in BOTH {
        let said = [version, "-H", &label, "-H", &kind];
        assert!(matches!(upload(site, server, NAME, BODY.as_bytes(), &said).status, 200 | 201));
        assert!(matches!(piped(site, &[version, "-T", "-", &url], BODY.repeat(30_000).into()).status, 200 | 201));
        assert!(matches!(upload(site, server, NAME, BODY.as_bytes(), &said).status, 200 | 201));
        assert_eq!(site.curl([version, &url]).text(), BODY);
        assert_eq!(site.curl([version, "-r", "1-3", &url]).status, 206);
        assert_eq!(site.curl([version, "-r", "999-", &url]).status, 416);
        assert_eq!(site.curl([version, &server.url(&format!("?list&prefix={NAME}"))]).status, 200);
        assert_eq!(site.curl([version, "-F", &form, &server.url("")]).status, 201);
        assert_eq!(site.curl([version, "-F", &form, "-F", &form, &server.url("")]).status, 400);
        let link = site.curl([version, "-X", "POST", &format!("{url}?share")]);
        let link = link.json()["url"].as_str().expect("a link").to_owned();
        assert_eq!(site.curl_bare([version, &link]).text(), BODY);
        secrets.push(link.rsplit_once("signature=").expect("a signature").1.to_owned());
        // And refusals, which say more.
        let bad = [version, "-H", &label, "-H", "Content-MD5: AAAAAAAAAAAAAAAAAAAAAA=="];
        assert_eq!(upload(site, server, NAME, BODY.as_bytes(), &bad).status, 400);
        let long = format!("x-amz-meta-long: {}", LABEL.repeat(100));
        assert_eq!(upload(site, server, NAME, BODY.as_bytes(), &[version, "-H", &long]).status, 400);
        let reserved = format!("x-amz-meta-sealward-x: {LABEL}");
        assert_eq!(upload(site, server, NAME, BODY.as_bytes(), &[version, "-H", &reserved]).status, 400);
        assert_eq!(site.curl_bare([version, "-H", &bearer(&wrong), &url]).status, 401);
        assert_eq!(site.curl([version, &format!("{url}?{LABEL}={LABEL}")]).status, 400);
        assert_eq!(site.curl([version, "-H", &format!("If-Match: {LABEL}"), &url]).status, 400);
        assert_eq!(site.curl([version, &server.url(&format!("{NAME}/{NAME}/"))]).status, 400);
        assert_eq!(site.curl([version, &server.url(&format!("{NAME}-none"))]).status, 404);
        last = Some(site.curl([version, "-X", "PATCH", "-d", BODY, &url]));
    }
    let mut raw = Raw::new(site, server);
    let announced = format!("{label}\r\nTrailer: Content-MD5\r\n");
    assert_eq!(raw.put_chunked(NAME, &announced, BODY.as_bytes(), &format!("Content-MD5: {LABEL}\r\n")).status, 400);
    let mut cut = Raw::new(site, server);
    cut.head(&format!("PUT /files/{NAME}"), &format!("{label}\r\nTransfer-Encoding: chunked\r\n"));
    cut.send(format!("{:x}\r\n{BODY}\r\n{BODY}", BODY.len()));
    cut.ended();
    let mut garbage = Raw::new(site, server);
    garbage.send(format!("{BODY} {LABEL}\r\n{}\r\n\r\n", bearer(&site.token)));
    garbage.ended();
    logged(server, &last.expect("an answer"));
    let last = site.curl([server.url("done")]);
    logged(server, &last);
    secrets
}

#[test]
fn no_line_tells_what_is_private() {
    let site = Site::new();
    let scoped = token(&site, "scoped", &[], &[Action::List]);
    let server = serve(&site, "plain");
    let mut secrets = traffic(&site, &server);
    let denied = site.curl_bare(["-H", &bearer(&scoped), &server.url(NAME)]);
    assert_eq!(denied.status, 403);
    logged(&server, &denied);
    secrets.push(secret_half(&scoped).to_owned());
    secrets.extend([BODY, LABEL, TYPE, FILE, "signature=", "?list"].map(str::to_owned));
    let (log, metrics) = (server.log(), server.metrics());
    assert!(log.contains("\"level\":\"TRACE\""), "nothing is traced");
    for secret in secrets {
        for line in log.lines().chain(metrics.lines()) {
            assert!(!line.to_lowercase().contains(&secret.to_lowercase()), "{secret} stands in: {line}");
        }
    }
    // Plain names are logged: this is what the next test's silence is measured by.
    assert!(log.contains(NAME));
    assert!(!metrics.contains(NAME));
}

#[test]
fn names_can_be_kept_out_of_the_log() {
    for object_keys in ["hashed", "omitted"] {
        let site = Site::new();
        let server = serve(&site, object_keys);
        traffic(&site, &server);
        // A damaged object is told of at length: still without its name.
        for file in files_below(&site.objects()) {
            if file.display().to_string().contains(NAME) && file.extension().is_some_and(|end| end == "sealed") {
                let mut bytes = std::fs::read(&file).expect("reads");
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                std::fs::write(&file, bytes).expect("writes");
            }
        }
        let damaged = site.get(&server, NAME);
        assert_eq!(damaged.status, 502, "{damaged:?}");
        logged(&server, &damaged);
        let read = site.curl(["-I", &server.url(NAME)]);
        let line: serde_json::Value = serde_json::from_str(&logged(&server, &read)).expect("is JSON");
        match object_keys {
            // `printf marker-of-the-name | sha256sum | cut -c1-16`
            "hashed" => assert_eq!(line["key"], "55d3f374d5c12722", "{line}"),
            _ => assert!(line.get("key").is_none_or(serde_json::Value::is_null), "{line}"),
        }
        for line in server.log().lines().chain(server.metrics().lines()) {
            assert!(!line.contains(NAME), "the name stands in: {line}");
        }
    }
}

#[test]
fn a_request_s_line_says_what_happened() {
    let site = Site::new();
    let server = site.serve("", "");
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let header = format!("traceparent: 00-{trace}-b7ad6b7169203331-01");
    let answer = upload(&site, &server, "a", b"hello", &["-H", &header]);
    let line: serde_json::Value = serde_json::from_str(&logged(&server, &answer)).expect("is JSON");
    for (name, value) in [
        ("method", "PUT"),
        ("route", "/files/"),
        ("class", "records"),
        ("key", "a"),
        ("caller", "tester"),
        ("trace_id", trace),
        ("outcome", "complete"),
    ] {
        assert_eq!(line[name], value, "{line}");
    }
    assert_eq!(line["status"], 201);
    let read = site.get(&server, "a");
    let line: serde_json::Value = serde_json::from_str(&logged(&server, &read)).expect("is JSON");
    assert_eq!((&line["sent"], &line["status"]), (&5.into(), &200.into()), "{line}");
}
