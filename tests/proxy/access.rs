//! The access log: a line for each request, as readers of a load balancer's lines take it.

use std::{collections::HashMap, fs};

use regex::Regex;

use crate::{
    apps::{ask, said, to},
    failing::file,
    nginx::Nginx,
    streaming::by_http1,
    support::{Answer, Sealward, Site, eventually, free_address, secret_half},
};

const TIME: &str = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z";
const SECONDS: &str = r"-1|\d+\.\d{3}";
const STATUS: &str = r"-|\d{3}";
const QUOTED: &str = r#""[ !#-\[\]-~]*(?:\\x[0-9A-F]{2}[ !#-\[\]-~]*)*""#;
/// What AWS documents of each field of an Application Load Balancer's access log, in its order.
const FIELDS: [(&str, &str); 30] = [
    ("type", "https|h2|grpcs|wss"),
    ("time", TIME),
    ("elb", r"\S+"),
    ("client:port", r"\S+:\d+"),
    ("target:port", r"-|\S+:\d+"),
    ("request_processing_time", SECONDS),
    ("target_processing_time", SECONDS),
    ("response_processing_time", SECONDS),
    ("elb_status_code", STATUS),
    ("target_status_code", STATUS),
    ("received_bytes", r"\d+"),
    ("sent_bytes", r"\d+"),
    ("request", r#""[^ "]+ [^ "]+ [^ "]+""#),
    ("user_agent", QUOTED),
    ("ssl_cipher", "[A-Z0-9_-]+"),
    ("ssl_protocol", r"TLSv1\.[23]"),
    ("target_group_arn", r"\S+"),
    ("trace_id", QUOTED),
    ("domain_name", QUOTED),
    ("chosen_cert_arn", QUOTED),
    ("matched_rule_priority", r"-|\d+"),
    ("request_creation_time", TIME),
    ("actions_executed", QUOTED),
    ("redirect_url", QUOTED),
    ("error_reason", QUOTED),
    ("target:port_list", QUOTED),
    ("target_status_code_list", QUOTED),
    ("classification", r#""(?:-|Acceptable|Ambiguous|Severe)""#),
    ("classification_reason", QUOTED),
    ("conn_trace_id", r"\S+"),
];

type Line = HashMap<&'static str, String>;

/// Reads a line as its documentation says; quotes are no part of a field.
fn parsed(line: &str) -> Line {
    let pattern: Vec<String> = FIELDS.iter().map(|(_, pattern)| format!("({pattern})")).collect();
    let pattern = Regex::new(&format!("^{}$", pattern.join(" "))).expect("a pattern");
    let found = pattern.captures(line).unwrap_or_else(|| panic!("that isn't a load balancer's line: {line}"));
    let field =
        |(at, (name, _)): (usize, &(&'static str, &'static str))| (*name, found[at + 1].trim_matches('"').to_owned());
    FIELDS.iter().enumerate().map(field).collect()
}

fn log(site: &Site) -> String {
    fs::read_to_string(site.path("access.log")).unwrap_or_default()
}

/// The line of the request with that id.
fn line_of(site: &Site, id: &str) -> String {
    assert!(!id.is_empty(), "it has an id");
    let line = || log(site).lines().find(|line| line.contains(id)).map(str::to_owned);
    eventually("its line is written", || line().is_some());
    line().expect("it is there")
}

fn told(site: &Site, answer: &Answer) -> Line {
    parsed(&line_of(site, answer.header("x-request-id")))
}

/// That `line` says these things.
fn says(line: &Line, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(line[*name], *value, "{name}: {line:?}");
    }
}

/// `more` with an access log that has these keys, and with names of objects hashed.
fn logged(more: &str, keys: &str) -> String {
    Site::config("", &format!("{more}[log.access]\npath = \"access.log\"\n{keys}\n"))
        .replace("level = \"debug\"\n", "level = \"debug\"\nobject_keys = \"hashed\"\n")
}

/// An app that keeps what is put.
fn app() -> Nginx {
    Nginx::start("one", "location /put/ { root data; dav_methods PUT; create_full_put_path on; }")
}

#[test]
fn a_request_that_goes_on_has_every_field() {
    let (site, app) = (Site::new(), app());
    app.keep("file", &[b'x'; 2000]);
    let server = site.serve_text(&logged(&to(&[app.url()], "").replace("public = true\n", "priority = 7\n"), ""));
    let (token, upload) = (format!("authorization: Bearer {}", site.token), file(&site, &[b'y'; 1000]));
    let trace = "x-amzn-trace-id: Root=1-67891233-abcdef012345678912345678";
    let (target, host) = (app.address.to_string(), format!("https://localhost:{}", server.https.port()));
    for (version, kind, http) in [("--http1.1", "https", "HTTP/1.1"), ("--http2", "h2", "HTTP/2.0")] {
        let with = [version, "-A", "one \"two\" \\ \u{e4}", "-H", trace, "-H", token.as_str()];
        let path = format!("/put/a%20{kind}");
        let url = format!("{path}?token=hidden");
        let put = ask(&site, &server, &url, &[&with[..], &["-T", &upload]].concat());
        assert_eq!(put.status, 201, "{put:?}");
        let line = told(&site, &put);
        says(
            &line,
            &[
                ("type", kind),
                ("target:port", &target),
                ("elb_status_code", "201"),
                ("target_status_code", "201"),
                ("received_bytes", "1000"),
                ("sent_bytes", "0"),
                ("request", &format!("PUT {host}{path} {http}")),
                ("user_agent", r"one \x22two\x22 \x5C \xC3\xA4"),
                ("ssl_protocol", "TLSv1.3"),
                ("target_group_arn", "app"),
                ("trace_id", "Root=1-67891233-abcdef012345678912345678"),
                ("domain_name", "localhost"),
                ("matched_rule_priority", "7"),
                ("actions_executed", "forward"),
                ("redirect_url", "-"),
                ("error_reason", "-"),
                ("target:port_list", &target),
                ("target_status_code_list", "201"),
                ("classification", "-"),
            ],
        );
        assert!(line["client:port"].starts_with("127.0.0.1:"), "{line:?}");
        assert!(line["request_creation_time"] <= line["time"], "{line:?}");
        for time in ["request_processing_time", "target_processing_time", "response_processing_time"] {
            let time: f64 = line[time].parse().expect("a number");
            assert!((0.0..30.0).contains(&time), "{line:?}");
        }
        let got = ask(&site, &server, "/data/file?token=hidden", &with);
        says(&told(&site, &got), &[("received_bytes", "0"), ("sent_bytes", "2000"), ("target_status_code", "200")]);
    }
    let log = log(&site);
    assert_eq!(log.lines().count(), 4, "{log}");
    assert!(!log.contains("hidden") && !log.contains(secret_half(&site.token)), "{log}");
}

#[test]
fn a_sealed_object_isnt_named() {
    let site = Site::new();
    let server = site.serve_text(&logged("", "query = true"));
    let address = format!("https://{}/files/", server.https);
    let hashed = Regex::new(&format!("^[A-Z]+ {address}[0-9a-f]{{16}} HTTP/2.0$")).expect("a pattern");
    let put = site.put(&server, "ward/patient.txt", &[b'x'; 1000]);
    let got = site.get(&server, "ward/patient.txt?hidden=1");
    assert_eq!(got.status, 400, "no such parameter: {got:?}");
    let got = site.get(&server, "ward/patient.txt");
    let (put, got) = (told(&site, &put), told(&site, &got));
    for line in [&put, &got] {
        assert!(hashed.is_match(&line["request"]), "{line:?}");
        says(line, &[("target_group_arn", "records"), ("actions_executed", "seal"), ("target:port", "-")]);
        says(line, &[("target_processing_time", "-1"), ("target_status_code", "-")]);
    }
    says(&put, &[("elb_status_code", "201"), ("received_bytes", "1000")]);
    says(&got, &[("elb_status_code", "200"), ("received_bytes", "0"), ("sent_bytes", "1000")]);
    let name = |line: &Line| line["request"].split(' ').nth(1).map(str::to_owned);
    assert_eq!(name(&put), name(&got), "the same is told by the same");
    let nobody = site.curl_bare([server.url("ward/patient.txt")]);
    says(&told(&site, &nobody), &[("elb_status_code", "401"), ("error_reason", "unauthorized")]);
    let log = log(&site);
    for secret in ["ward/", "patient", "hidden", secret_half(&site.token)] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

/// Nor where its name is one that nobody can have.
#[test]
fn a_sealed_object_isnt_named_either_where_its_name_cant_be_read() {
    let site = Site::new();
    let server = site.serve_text(&logged("", "query = true"));
    for odd in ["ward//patient.txt?hidden=1", "ward/patient%zz?hidden=1", "../files/ward/patient?hidden=1"] {
        let url = server.url(odd);
        let answer = site.curl(["--path-as-is", url.as_str()]);
        assert_eq!(answer.status, 400, "{answer:?}");
        let line = line_of(&site, answer.header("x-request-id"));
        assert!(!["ward/", "patient", "hidden"].iter().any(|secret| line.contains(secret)), "{line}");
    }
}

#[test]
fn what_is_answered_here_is_told_too() {
    let (site, app) = (Site::new(), app());
    let closed = free_address();
    let more = format!(
        "[[route]]\npath = \"/old/\"\nredirect = {{ to = \"https://{{host}}/new{{path}}\" }}\n\
         [[route]]\npath = \"/teapot\"\nrespond = {{ status = 418, body = \"short\" }}\n\
         [[route]]\npath = \"/often\"\npublic = true\nquotas = [\"few\"]\nforward = {{ upstream = \"app\" }}\n\
         [[quota]]\nname = \"few\"\nrequests = 1\n\
         [[route]]\npath = \"/dead\"\npublic = true\nforward = {{ upstream = \"dead\" }}\n\
         [[upstream]]\nname = \"dead\"\ntargets = [\"http://{closed}\"]\n"
    );
    let server = site.serve_text(&logged(&to(&[app.url()], &more), ""));
    let at = |path: &str| ask(&site, &server, path, &[]);
    let moved = at("/old/a?token=hidden");
    assert_eq!(moved.header("location"), "https://localhost/new/old/a");
    let expected = [("elb_status_code", "308"), ("actions_executed", "redirect"), ("target_status_code", "-")];
    says(&told(&site, &moved), &expected);
    says(&told(&site, &moved), &[("redirect_url", "https://localhost/new/old/a"), ("target_group_arn", "-")]);
    let fixed = [("elb_status_code", "418"), ("actions_executed", "fixed-response"), ("sent_bytes", "5")];
    says(&told(&site, &at("/teapot")), &fixed);
    let dead = told(&site, &at("/dead"));
    says(&dead, &[("elb_status_code", "502"), ("error_reason", "bad_gateway"), ("target_status_code", "-")]);
    says(&dead, &[("target_group_arn", "dead"), ("target_processing_time", "-1")]);
    let mut often = (0..20).map(|_| at("/often"));
    let refused = told(&site, &often.find(|answer| answer.status == 429).expect("it asks too often"));
    says(&refused, &[("error_reason", "too_many_requests"), ("target:port", "-"), ("target_status_code", "-")]);
    assert!(!log(&site).contains("hidden"));
}

#[test]
fn what_a_redirect_says_of_a_query_isnt_written_either() {
    let site = Site::new();
    let redirect = "[[route]]\npath = \"/old/\"\nredirect = { to = \"/new{path}?{query}\" }\n";
    for (query, written) in [("", false), ("query = true", true)] {
        let server = site.serve_text(&logged(redirect, query));
        let moved = ask(&site, &server, "/old/a?token=hidden", &[]);
        assert_eq!(moved.header("location"), "/new/old/a?token=hidden");
        let line = told(&site, &moved);
        assert_eq!(line["redirect_url"].contains("hidden"), written, "{line:?}");
        assert_eq!(line["request"].contains("hidden"), written, "{line:?}");
    }
}

#[test]
fn the_trace_is_the_one_that_the_app_is_told() {
    let (site, app) = (Site::new(), app());
    let server = site.serve_text(&logged(&to(&[app.url()], ""), ""));
    for args in [&[][..], &["-H", "x-amzn-trace-id: Root=1-67891233-abcdef012345678912345678"]] {
        let answer = ask(&site, &server, "/", args);
        says(&told(&site, &answer), &[("trace_id", &said(&answer, "trace"))]);
    }
}

/// A request that says its length in two ways, and the id that its answer has.
fn in_two_ways(site: &Site, server: &Sealward) -> (String, String) {
    let request = b"POST /row?token=hidden HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = by_http1(site, server, request);
    let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id").to_owned();
    (answer, id)
}

#[test]
fn a_head_that_may_mean_two_things_is_told_with_what_is_wrong() {
    let (site, app) = (Site::new(), app());
    let text = logged(&to(&[app.url()], ""), "");
    let server = site.serve_text(&text);
    let (answer, id) = in_two_ways(&site, &server);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let line = parsed(&line_of(&site, &id));
    says(&line, &[("classification", "Ambiguous"), ("classification_reason", "both_lengths")]);
    says(&line, &[("elb_status_code", "400"), ("error_reason", "bad_request"), ("target:port", "-")]);
    says(&line, &[("type", "https"), ("target_status_code", "-"), ("domain_name", "localhost")]);
    drop(server);

    let server = site.serve_text(&text.replacen("bind = ", "desync = \"defensive\"\nbind = ", 1));
    let (answer, id) = in_two_ways(&site, &server);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let line = parsed(&line_of(&site, &id));
    says(&line, &[("classification", "Ambiguous"), ("classification_reason", "both_lengths")]);
    says(&line, &[("elb_status_code", "200"), ("request", "POST https://localhost/row HTTP/1.1")]);
    assert!(!log(&site).contains("hidden"));
}

#[test]
fn as_json_it_has_the_same_names() {
    let (site, app) = (Site::new(), app());
    let server = site.serve_text(&logged(&to(&[app.url()], ""), "format = \"json\"\nquery = true"));
    let answer = ask(&site, &server, "/x?shown=1", &["-A", "one \"two\"\u{e4}"]);
    let object = site.put(&server, "ward", b"bytes");
    let json = |answer: &Answer| -> serde_json::Value {
        serde_json::from_str(&line_of(&site, answer.header("x-request-id"))).expect("is JSON")
    };
    let line = json(&answer);
    let port = server.https.port();
    assert_eq!(line["request"], format!("GET https://localhost:{port}/x?shown=1 HTTP/2.0"));
    assert_eq!(line["status_code"], 200, "{line}");
    assert_eq!(line["user_agent"], "one \"two\"\u{e4}");
    assert_eq!(line["target"], app.address.to_string());
    assert_eq!(line["sent_bytes"], answer.body.len());
    assert!(line["target_processing_time"].as_f64().is_some_and(|time| time >= 0.0), "{line}");
    for (name, value) in [("type", "h2"), ("target_group", "app"), ("actions_executed", "forward")] {
        assert_eq!(line[name], value, "{line}");
    }
    for name in ["error_reason", "redirect_url", "classification", "matched_rule_priority"] {
        assert!(line.as_object().is_some_and(|line| line.get(name).is_some_and(serde_json::Value::is_null)), "{line}");
    }
    let object = json(&object);
    assert_eq!(object["target_group"], "records", "{object}");
    assert_eq!(object["received_bytes"], 5, "{object}");
    assert!(!log(&site).contains("/files/ward"));
}

#[test]
fn it_goes_on_in_a_new_file_where_the_old_one_was_moved_away() {
    let (site, app) = (Site::new(), app());
    let server = site.serve_text(&logged(&to(&[app.url()], ""), ""));
    let lines = |name: &str| fs::read_to_string(site.path(name)).unwrap_or_default().lines().count();
    let ask_ten = || assert_eq!(ask(&site, &server, "/?[1-10]", &[]).exit, 0);
    ask_ten();
    eventually("they are written", || lines("access.log") == 10);
    fs::rename(site.path("access.log"), site.path("access.log.1")).expect("is moved");
    ask_ten();
    eventually("they are written to the same", || lines("access.log.1") == 20);
    server.signal("HUP");
    eventually("there is a new one", || site.path("access.log").exists());
    ask_ten();
    eventually("they are written to the new one", || lines("access.log") == 10);
    assert_eq!(lines("access.log.1"), 20);
    for line in log(&site).lines() {
        parsed(line);
    }
    let written = || server.metric("sealward_access_log_lines_total{outcome=\"written\"}");
    eventually("they are counted", || written() == 30.0);
}

#[test]
fn a_disk_that_is_full_costs_no_request() {
    let (site, app) = (Site::new(), app());
    let text = logged(&to(&[app.url()], ""), "").replace("\"access.log\"", "\"/dev/full\"");
    let server = site.serve_text(&text);
    for version in ["--http1.1", "--http2"] {
        let answer = ask(&site, &server, "/?[1-100]", &[version]);
        assert_eq!((answer.exit, answer.text().matches("name=one").count()), (0, 100));
    }
    let lines = |outcome: &str| server.metric(&format!("sealward_access_log_lines_total{{outcome=\"{outcome}\"}}"));
    eventually("they are counted", || lines("failed") == 200.0);
    assert_eq!((lines("written"), lines("dropped")), (0.0, 0.0));
    server.wait_for_line(|line| line.contains("the access log can't be written") && line.contains("/dev/full"));
}
