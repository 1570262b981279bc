//! Secrets as moto's Secrets Manager and Parameter Store have them: certificates, session
//! tickets and values of the configuration come out of them, and are rotated.

use std::fs;

use serde_json::json;

use crate::{
    check::{offline, online},
    standin::{moto, text},
    support::{
        Sealward, Site, eventually, pattern,
        swapped::{leaf, made, resumed, under_load},
    },
};

const EDGE: &str = "source = { secret = { name = \"edge\" } }";
const FILES: &str = "source = { files = { cert = \"tls/cert.pem\", key = \"tls/key.pem\" } }";
const REFUSED: &str = "sealward_certificate_loads_total{name=\"127.0.0.1:0\",outcome=\"refused\"}";
/// What must be seen nowhere; long enough to be a secret of tickets.
const HIDDEN: &str = "hunter2-is-for-sealward-alone-to-read";

/// A fresh secret of Secrets Manager: its ARN, and the id of its version.
fn create(name: &str, value: &str) -> (String, String) {
    let answer = moto().does(json!({"do": "secret", "name": name, "value": value}));
    (text(&answer["arn"]), text(&answer["version"]))
}

/// Another version of it under `stage`: its id.
fn put(name: &str, value: &str, stage: &str) -> String {
    text(&moto().does(json!({"do": "version", "name": name, "value": value, "stage": stage}))["version"])
}

fn rotate(name: &str, value: &str) -> String {
    put(name, value, "AWSCURRENT")
}

/// A parameter of this type, or another version of it.
fn parameter(name: &str, value: &str, kind: &str) {
    moto().does(json!({"do": "parameter", "name": name, "value": value, "kind": kind, "overwrite": true}));
}

/// `[[secret]]`, looked at every second.
fn secret(name: &str, source: &str) -> String {
    format!("[[secret]]\nname = \"{name}\"\nsource = {{ {source} }}\nrefresh = \"1s\"\n")
}

/// The site's configuration with `tls` in its listener, and `rest` at its end.
fn config(tls: &str, rest: &str) -> String {
    let whole = Site::config("", rest);
    let line = whole.lines().find(|line| line.starts_with("tls = ")).expect("one").to_owned();
    whole.replace(&line, &format!("tls = {{ {tls} }}"))
}

/// The same with its certificate in `edge`, which is `name` of Secrets Manager.
fn from_edge(name: &str) -> String {
    config(EDGE, &secret("edge", &format!("secrets_manager = \"{name}\"")))
}

/// The configuration with values out of `name` of Secrets Manager.
fn with_values(name: &str) -> String {
    let value = |field: &str| format!("{{ secret = \"values\", field = \"{field}\" }}");
    let rest = secret("values", &format!("secrets_manager = \"{name}\""));
    let rest = format!("{rest}[limits]\nuploads = {}\n", value("uploads"));
    Site::config(&format!("max_size = {}", value("most")), &rest)
        .replace("directory = \"objects\"", &format!("directory = {}", value("directory")))
        .replace("level = \"debug\"", &format!("level = {}", value("level")))
}

/// Chain and key in one text, the leaf first.
fn bundle(site: &Site, (cert, key): &(String, String)) -> String {
    let authority = fs::read_to_string(site.path("tls/ca.pem")).expect("reads");
    format!("{cert}{authority}{key}")
}

/// The series of looks at a secret that came to `outcome`.
fn looks(name: &str, outcome: &str) -> String {
    format!("sealward_secret_refreshes_total{{outcome=\"{outcome}\",secret=\"{name}\"}}")
}

/// Waits until `name` was looked at `times` more, and nothing was new.
fn looked_at(server: &Sealward, name: &str, times: f64) {
    let same = looks(name, "same");
    let before = server.metric(&same);
    eventually("it is looked at", || server.metric(&same) >= before + times);
}

/// Whether it is the certificate in `pem` that openssl is shown.
fn shows(server: &Sealward, pem: &str) -> bool {
    let bare = |pem: &str| pem.split_whitespace().collect::<String>();
    bare(pem).starts_with(&bare(&leaf(server)))
}

#[test]
fn a_rotated_certificate_is_served_and_no_request_fails() {
    let site = moto().site();
    let (first, second) = (made(&site, "first.example"), made(&site, "second.example"));
    create("rotated/edge", &bundle(&site, &first));
    let server = site.serve_text(&from_edge("rotated/edge"));
    assert!(shows(&server, &first.0));
    let since = "sealward_secret_version_timestamp_seconds{secret=\"edge\"}";
    assert!(server.metric(since) > 0.0, "{}", server.metrics());
    assert_eq!(server.metric(&looks("edge", "new")), 0.0);

    under_load(&site, &server, || {
        rotate("rotated/edge", &bundle(&site, &second));
    });
    assert!(shows(&server, &second.0));
    assert_eq!(server.metric(&looks("edge", "new")), 1.0);
    assert!(server.metric(since) > 0.0);
    assert_eq!(server.metric(REFUSED), 0.0);
    assert!(!server.log().contains("PRIVATE KEY"));
}

#[test]
fn chain_and_key_may_be_two_fields_of_a_secret_that_nothing_else_names() {
    let site = moto().site();
    let (first, second) = (made(&site, "first.example"), made(&site, "second.example"));
    let fields = |(cert, key): &(String, String)| {
        json!({"certificate": cert, "private_key": key, "renewed": ["by", "hand"]}).to_string()
    };
    let (arn, _) = create("fields/edge", &fields(&first));
    let of = |name: &str| {
        let tls = "cert = \"certificate\", key = \"private_key\"";
        config(&format!("source = {{ secret = {{ name = \"{name}\", {tls} }} }}"), "")
    };
    let server = site.serve_text(&of("fields/edge"));
    assert!(shows(&server, &first.0));
    assert!(server.metric("sealward_secret_version_timestamp_seconds{secret=\"fields/edge\"}") > 0.0);
    under_load(&site, &server, || {
        rotate("fields/edge", &fields(&second));
        // By itself it would look in minutes.
        server.signal("HUP");
    });
    assert!(shows(&server, &second.0));
    assert_eq!(server.metric(&looks("fields/edge", "new")), 1.0);
    assert!(!server.log().contains("PRIVATE KEY"));

    drop(server);
    let server = site.serve_text(&of(&arn));
    assert!(shows(&server, &second.0), "by its ARN");
}

#[test]
fn what_is_pending_is_never_used() {
    let site = moto().site();
    let (current, next) = (made(&site, "current.example"), made(&site, "next.example"));
    create("pending/edge", &bundle(&site, &current));
    let server = site.serve_text(&from_edge("pending/edge"));
    let pending = put("pending/edge", &bundle(&site, &next), "AWSPENDING");
    looked_at(&server, "edge", 3.0);
    assert!(shows(&server, &current.0));
    assert_eq!(server.metric(&looks("edge", "new")), 0.0);
    assert!(!server.log().contains(&pending), "{}", server.log());

    drop(server);
    let server = site.serve_text(&from_edge("pending/edge"));
    assert!(shows(&server, &current.0), "not at a start either");
    rotate("pending/edge", &bundle(&site, &next));
    eventually("it is served once it is current", || shows(&server, &next.0));
}

#[test]
fn rubbish_as_the_new_version_changes_nothing() {
    let site = moto().site();
    let (first, second) = (made(&site, "first.example"), made(&site, "second.example"));
    create("rubbish/edge", &bundle(&site, &first));
    let server = site.serve_text(&from_edge("rubbish/edge"));
    let mixed = (second.0.clone(), first.1.clone());
    let mut refused = 0.0;
    for (rubbish, why) in [
        (HIDDEN.to_owned(), "is not PEM text"),
        (second.0.clone(), "holds no private key block"),
        (bundle(&site, &mixed), "is the key of another certificate"),
    ] {
        rotate("rubbish/edge", &rubbish);
        server.wait_for_line(|line| {
            ["new certificate refused", "secret `edge`", why].iter().all(|words| line.contains(words))
        });
        looked_at(&server, "edge", 2.0);
        refused += 1.0;
        assert_eq!(server.metric(REFUSED), refused, "{why}: counted once");
        assert_eq!(server.log().matches(why).count(), 1, "{why}: said once");
        assert!(shows(&server, &first.0), "{why}");
        assert_eq!(site.get(&server, "nothing").status, 404, "{why}");
    }
    rotate("rubbish/edge", &bundle(&site, &second));
    eventually("a good one is served", || shows(&server, &second.0));
    assert!(!server.log().contains("PRIVATE KEY") && !server.log().contains(HIDDEN));
}

#[test]
fn a_secure_parameter_will_do_for_each_of_them() {
    let site = moto().site();
    let (first, second) = (made(&site, "first.example"), made(&site, "second.example"));
    let sessions = tempfile::tempdir().expect("a folder");
    let session = sessions.path().join("session");
    parameter("/good/edge", &bundle(&site, &first), "SecureString");
    parameter("/good/tickets", HIDDEN, "SecureString");
    parameter("/good/limits", &json!({"uploads": 7}).to_string(), "SecureString");
    let rest = [
        secret("edge", "parameter = \"/good/edge\""),
        secret("tickets", "parameter = \"/good/tickets\""),
        secret("limits", "parameter = \"/good/limits\""),
        "[limits]\nuploads = { secret = \"limits\", field = \"uploads\" }\n".to_owned(),
    ];
    let whole = config(&format!("{EDGE}, ticket_secret = {{ secret = \"tickets\" }}"), &rest.concat());
    let server = site.serve_text(&whole);
    assert!(shows(&server, &first.0));
    assert!(server.metric("sealward_secret_version_timestamp_seconds{secret=\"edge\"}") > 0.0);
    assert!(!resumed(&server, &session), "begun");

    under_load(&site, &server, || parameter("/good/edge", &bundle(&site, &second), "SecureString"));
    assert!(shows(&server, &second.0));
    eventually("it is counted", || server.metric(&looks("edge", "new")) == 1.0);
    // Taken away and made anew it begins at version 1 again.
    moto().does(json!({"do": "forget_parameter", "name": "/good/edge"}));
    parameter("/good/edge", &bundle(&site, &first), "SecureString");
    eventually("the one made anew is served", || shows(&server, &first.0));
    drop(server);
    let server = site.serve_text(&whole);
    assert!(resumed(&server, &session), "after a restart");
    assert!(!server.log().contains("PRIVATE KEY") && !server.log().contains(HIDDEN));
}

#[test]
fn a_parameter_that_is_plain_or_missing_is_refused_by_name() {
    let site = moto().site();
    parameter("/bad/plain", HIDDEN, "String");
    for (name, why) in [("/bad/plain", "make it a SecureString"), ("/bad/missing", "no such parameter")] {
        let whole = config(EDGE, &secret("edge", &format!("parameter = \"{name}\"")));
        let log = site.try_serve(&whole, &[]).err().expect("it must not serve");
        assert!(log.contains("secret `edge`") && log.contains(name) && log.contains(why), "{log}");
        let (code, words) = online(&site, &whole);
        assert_eq!(code, 2, "{words}");
        let row = words.lines().find(|line| line.starts_with("FAIL") && line.contains("secret `edge`"));
        assert!(row.is_some_and(|row| row.contains(name) && row.contains(why)), "{words}");
        assert!(!log.contains(HIDDEN) && !words.contains(HIDDEN), "{log}\n{words}");
    }
}

#[test]
fn any_value_comes_out_of_a_field_and_a_rotation_asks_for_a_restart() {
    let site = moto().site();
    let values = |most: &str| json!({"uploads": 7, "most": most, "directory": "elsewhere", "level": "debug"});
    create("values/rotated", &values("1MiB").to_string());
    let server = site.serve_text(&with_values("values/rotated"));
    site.put(&server, "small", b"small");
    assert!(site.path("elsewhere").is_dir() && !site.objects().exists());
    let file = site.path("large");
    fs::write(&file, pattern((1 << 20) + 1)).expect("writes");
    let large = |server: &Sealward| site.curl(["-T".as_ref(), file.as_os_str(), server.url("large").as_ref()]).status;
    assert_eq!(large(&server), 413);
    // Said at level `debug` alone, which isn't the default.
    site.curl([format!("http://{}/", server.https)]);
    server.wait_for_line(|line| line.contains("handshake failed"));

    rotate("values/rotated", &values("2MiB").to_string());
    let line = server.wait_for_line(|line| line.contains("restart to take the new one"));
    assert!(line.contains("\"secret\":\"values\""), "{line}");
    assert_eq!(large(&server), 413, "the old one holds");
    drop(server);
    let server = site.serve_text(&with_values("values/rotated"));
    assert_eq!(large(&server), 201);
}

#[test]
fn a_value_that_a_secret_doesnt_have_is_a_fault_at_its_line() {
    let site = moto().site();
    let count = json!({"count": HIDDEN}).to_string();
    for (at, value, field, why) in [
        ("none", count.as_str(), "none", "the secret `values` has no field `none`"),
        ("text", HIDDEN, "count", "the secret `values` is no JSON object"),
        ("unfit", count.as_str(), "count", "`uploads` in `[limits]` is not a whole number"),
    ] {
        create(&format!("faults/{at}"), value);
        let rest = secret("values", &format!("secrets_manager = \"faults/{at}\""));
        let rest = format!("{rest}[limits]\nuploads = {{ secret = \"values\", field = \"{field}\" }}\n");
        let whole = Site::config("", &rest);
        let line = whole.lines().position(|line| line.starts_with("uploads = ")).expect("is there") + 1;
        let log = site.try_serve(&whole, &[]).err().expect("it must not serve");
        assert!(log.contains(why) && log.contains(&format!("sealward.toml:{line}:")), "{log}");
        let (code, words) = online(&site, &whole);
        assert!(code == 2 && words.contains(why) && words.contains(&format!("check.toml:{line}:")), "{code}: {words}");
        assert!(!log.contains(HIDDEN) && !words.contains(HIDDEN), "{log}\n{words}");
    }
}

#[test]
fn check_fetches_when_it_is_told_to() {
    let site = moto().site();
    let values = json!({"uploads": 7, "most": "1MiB", "directory": "elsewhere", "level": "debug", "note": HIDDEN});
    let (_, version) = create("values/checked", &values.to_string());
    // Who has neither credentials nor a region can still have the text read.
    let (code, words) = offline(&Site::new(), &with_values("values/checked"));
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("values come out of `values`") && words.contains("`--online`"), "{words}");

    let (code, words) = online(&site, &with_values("values/checked"));
    assert_eq!(code, 0, "{words}");
    let row = words.lines().find(|line| line.starts_with("ok") && line.contains("secret `values`"));
    assert!(row.is_some_and(|row| row.contains("be fetched") && row.contains(&version)), "{words}");
    assert!(!words.contains("FAIL") && !words.contains(HIDDEN), "{words}");
}

#[test]
fn a_secret_that_isnt_there_is_named() {
    let site = moto().site();
    let unnamed = config("source = { secret = { name = \"isnt/there\" } }", "");
    for (whole, part) in [
        (unnamed, "secret `isnt/there`"),
        (from_edge("isnt/there"), "secret `edge`"),
        (with_values("isnt/there"), "secret `values`"),
    ] {
        let log = site.try_serve(&whole, &[]).err().expect("it must not serve");
        assert!(log.contains(part) && log.contains("isnt/there: Secrets Manager has no such secret"), "{log}");
        let (code, words) = online(&site, &whole);
        assert!(matches!(code, 1 | 2) && words.contains(part) && words.contains("no such secret"), "{code}: {words}");
    }
}

#[test]
fn no_value_is_ever_shown() {
    let site = moto().site();
    let (cert, key) = made(&site, "hidden.example");
    let good = json!({"certificate": cert, "private_key": key, "tickets": HIDDEN, "note": HIDDEN});
    let bad = json!({"certificate": HIDDEN, "private_key": HIDDEN, "tickets": "hunter2"});
    create("hidden/edge", &good.to_string());
    let tls = "source = { secret = { name = \"edge\", cert = \"certificate\", key = \"private_key\" } }";
    let tls = format!("{tls}, ticket_secret = {{ secret = \"edge\", field = \"tickets\" }}");
    let whole = config(&tls, &secret("edge", "secrets_manager = \"hidden/edge\""));
    let server = site.serve_text(&whole);
    assert_eq!(site.get(&server, "nothing").status, 404);
    for (value, of_certificate, of_tickets) in [
        (HIDDEN.to_owned(), "is no JSON object, so that it has no field `certificate`", "has no field `tickets`"),
        (bad.to_string(), "is not PEM text", "7 bytes are no secret"),
    ] {
        rotate("hidden/edge", &value);
        let said = |what: &str, why: &str| {
            server.wait_for_line(|line| line.contains(what) && line.contains("secret `edge`") && line.contains(why));
        };
        said("new certificate refused", of_certificate);
        said("session tickets keep their older secret", of_tickets);
    }
    assert!(shows(&server, &cert));
    let mut all = format!("{}\n{}", server.log(), server.metrics());
    drop(server);
    // A start with the last of them.
    all += &site.try_serve(&whole, &[]).err().expect("it must not serve");
    all += &online(&site, &whole).1;
    assert!(!all.contains("hunter2") && !all.contains("PRIVATE KEY"), "{all}");
    assert!(key.lines().filter(|line| !line.starts_with("---")).all(|line| !all.contains(line)), "{all}");
}

#[test]
fn a_session_outlives_one_rotation_of_the_tickets_secret() {
    let (site, other) = (moto().site(), Site::new());
    let [first, second, third] = ["first", "second", "third"].map(|which| format!("{which}-{HIDDEN}"));
    create("rotated/tickets", &first);
    let tls = format!("{FILES}, ticket_secret = {{ secret = \"tickets\" }}");
    let whole = config(&tls, &secret("tickets", "secrets_manager = \"rotated/tickets\""));
    // A replica that knows the second alone tells which one a ticket is written with.
    fs::write(other.path("tickets.key"), &second).expect("writes");
    let knows_second = other.serve_text(&config(&format!("{FILES}, ticket_secret = \"tickets.key\""), ""));
    let sessions = tempfile::tempdir().expect("a folder");
    let before = sessions.path().join("before");
    let server = site.serve_text(&whole);
    assert!(!resumed(&server, &before), "begun");
    assert!(resumed(&server, &before));
    assert!(!resumed(&knows_second, &before), "written with the first");

    rotate("rotated/tickets", &second);
    eventually("tickets are written with the second", || {
        let folder = tempfile::tempdir().expect("a folder");
        let session = folder.path().join("session");
        assert!(!resumed(&server, &session), "begun");
        resumed(&knows_second, &session)
    });
    assert!(resumed(&server, &before), "the first is still read");
    drop(server);
    let server = site.serve_text(&whole);
    assert!(resumed(&server, &before), "after a restart too: it is AWSPREVIOUS");

    rotate("rotated/tickets", &third);
    eventually("the first is read no more", || !resumed(&server, &before));
    assert!(!server.log().contains(HIDDEN));
}
