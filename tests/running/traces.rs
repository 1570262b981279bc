//! Traces, as a collector gets them.

use serde_json::json;

use crate::{
    collector::{Collector, Span},
    drills::key_disabled::UNCACHED,
    standin::{ministack, moto, under_kms},
    support::{Sealward, Site, eventually, free_address, pattern},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}")
}

/// `[traces]` to that collector.
fn to(collector: &Collector, more: &str) -> String {
    format!("[traces]\nendpoint = \"http://{}\"\n{more}\n", collector.address)
}

fn put(site: &Site, server: &Sealward, key: &str, bytes: &[u8], header: &str) {
    let file = site.path("upload.tmp");
    std::fs::write(&file, bytes).expect("writes");
    let answer = site.curl(["-H", header, "-T", &file.display().to_string(), &server.url(key)]);
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// The first of this name.
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| {
        let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
        panic!("no span `{name}` in {names:?}")
    })
}

#[test]
fn an_upload_is_one_trace_of_its_hops_and_their_calls() {
    let (aws, collector) = (moto(), Collector::start());
    let (bucket, key, site) = (aws.bucket("traced"), aws.key(), aws.site());
    let text = under_kms(&bucket, &key, "binding = \"strict\"\n")
        + "[catalog]\nurl = \"sqlite:catalog.db\"\n"
        + &to(&collector, "");
    let server = site.serve_text(&text);
    put(&site, &server, "scans/one", &pattern(20 << 20), &traceparent("01"));
    let spans = collector.trace(TRACE, |span| span.name == "PUT /files/");

    let root = named(&spans, "PUT /files/");
    assert_eq!((&*root.parent, root.kind), (PARENT, 2), "the client's own span, and a server's");
    assert_eq!(root.attribute("http.route"), "/files/");
    assert_eq!(root.attribute("http.response.status_code"), "201i", "a number");
    assert_eq!(root.attribute("sealward.class"), "records");
    assert_eq!(root.attribute("sealward.key"), "scans/one", "as the log has it");
    assert!(root.attribute("sealward.request_id").len() == 36);

    for (hop, below) in [
        ("identify", "PUT /files/"),
        ("gateway", "PUT /files/"),
        ("upload", "gateway"),
        ("look", "upload"),
        ("data key", "upload"),
        ("seal", "upload"),
        ("complete", "seal"),
        ("catalogue", "upload"),
        ("KMS.GenerateDataKey", "data key"),
        ("S3.HeadObject", "look"),
        ("S3.CreateMultipartUpload", "seal"),
        ("S3.CompleteMultipartUpload", "complete"),
    ] {
        let (span, above) = (named(&spans, hop), named(&spans, below));
        assert_eq!(span.parent, above.id, "{hop} is below {below}");
        assert!(span.start >= above.start && span.end >= span.start, "{hop}");
    }
    // 20 MiB and what sealing adds, in parts of 8 MiB; the last of them may go with the end.
    let parts: Vec<_> = spans.iter().filter(|span| span.name == "S3.UploadPart").collect();
    let above = [&named(&spans, "seal").id, &named(&spans, "complete").id];
    assert!(parts.len() >= 3 && parts.iter().all(|part| above.contains(&&part.parent)), "{parts:#?}");
    let calls: Vec<_> = spans.iter().filter(|span| span.attribute("rpc.system") == "aws-api").collect();
    assert!(calls.len() >= 6);
    // moto answers a HEAD of nothing without an id, which S3 doesn't.
    for call in calls.into_iter().filter(|call| call.name != "S3.HeadObject") {
        assert!(!call.attribute("aws.request_id").is_empty(), "{call:#?}");
        assert_eq!(call.kind, 3, "a client's");
    }

    let another = TRACE.replace('4', "5");
    let header = traceparent("01").replace(TRACE, &another);
    let answer = site.curl(["-H", &header, "-r", "0-9", &server.url("scans/one")]);
    assert_eq!(answer.status, 206);
    let spans = collector.trace(&another, |span| span.name == "GET /files/");
    assert_eq!(named(&spans, "open").parent, named(&spans, "gateway").id);
    assert!(spans.iter().any(|span| span.name == "S3.GetObject"));

    let whole = TRACE.replace('4', "6");
    let header = traceparent("01").replace(TRACE, &whole);
    assert_eq!(site.curl(["-H", &header, "-o", "/dev/null", &server.url("scans/one")]).status, 200);
    let spans = collector.trace(&whole, |span| span.name == "GET /files/");
    let (root, send) = (named(&spans, "GET /files/"), named(&spans, "send"));
    assert!(root.end >= send.end, "to the end of its answer: {root:#?} {send:#?}");

    assert!(!collector.has_seen(site.token.as_bytes()), "a token");
    assert!(!collector.has_seen(&pattern(64)), "a plaintext");
    // What the log says of the request names the trace.
    server.wait_for_line(|line| line.contains("\"message\":\"request\"") && line.contains(TRACE));
    assert_eq!(server.metric("sealward_trace_spans_total{outcome=\"failed\"}"), 0.0);
}

#[test]
fn a_failed_call_says_what_was_wrong_and_which_it_was() {
    let (aws, collector) = (moto(), Collector::start());
    let (bucket, key, site) = (aws.bucket("traced-failing"), aws.key(), aws.site());
    let server = site.serve_text(&(under_kms(&bucket, &key, "") + &to(&collector, "")));
    let answer = site.curl(["-H", &traceparent("01"), &server.url("nothing")]);
    assert_eq!(answer.status, 404, "{answer:?}");
    let spans = collector.trace(TRACE, |span| span.name == "GET /files/");
    let call = named(&spans, "S3.GetObject");
    assert_eq!((&*call.attribute("error.type"), call.status), ("NoSuchKey", 0), "an answer, and no failure");
    assert!(!call.attribute("aws.request_id").is_empty());
    assert_eq!(named(&spans, "GET /files/").status, 0, "a client's error is none of ours");
    assert_eq!(named(&spans, "open").status, 0, "nor a hop's");
}

#[test]
fn the_deepest_hop_that_is_marked_names_the_cause() {
    let (aws, collector) = (ministack(), Collector::start());
    let (bucket, key, site) = (aws.bucket("traced-disabled"), aws.key(), aws.site());
    let config = under_kms(&bucket, &key, "").replacen("provider = \"kms\"", UNCACHED, 1);
    let server = site.serve_text(&(config + &to(&collector, "")));
    aws.does(json!({"do": "disable", "arn": key}));
    let file = site.path("upload.tmp");
    std::fs::write(&file, b"an object").expect("writes");
    let answer = site.curl(["-H", &traceparent("01"), "-T", &file.display().to_string(), &server.url("new")]);
    assert_eq!(answer.status, 503, "{answer:?}");
    let spans = collector.trace(TRACE, |span| span.name == "PUT /files/");
    for hop in ["PUT /files/", "gateway", "upload", "data key", "KMS.GenerateDataKey"] {
        assert_eq!(named(&spans, hop).status, 2, "{hop}: {spans:#?}");
    }
    for hop in ["identify", "look"] {
        assert!(spans.iter().all(|span| span.name != hop || span.status == 0), "{hop}: {spans:#?}");
    }
}

#[test]
fn an_app_behind_is_told_the_hop_that_it_is_called_from() {
    let (site, collector, app) = (Site::new(), Collector::start(), Collector::start());
    let app_route = format!(
        "[[route]]\npath = \"/\"\npublic = true\nforward = {{ upstream = \"app\" }}\n\
         [[upstream]]\nname = \"app\"\ntargets = [\"http://{}\"]\n",
        app.address
    );
    let server = site.serve("", &(app_route.clone() + &to(&collector, "")));
    let url = format!("https://{}/orders", server.https);
    let answer = site.curl_bare(["-H", &traceparent("01"), "-H", "tracestate: vendor=of-theirs", &url]);
    assert_eq!(answer.status, 200);
    let spans = collector.trace(TRACE, |span| span.name == "GET /");
    let forward = named(&spans, "forward");
    assert_eq!(app.header("traceparent"), format!("00-{TRACE}-{}-01", forward.id));
    assert_eq!(app.header("tracestate"), "vendor=of-theirs");
    assert_eq!(forward.attribute("sealward.upstream"), "app");
    assert_eq!(forward.attribute("http.response.status_code"), "200i");

    // Who isn't to be recorded isn't; the app is told so, in the same trace.
    assert_eq!(site.curl_bare(["-H", &traceparent("00"), &url]).status, 200);
    let told = app.header("traceparent");
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"), "{told}");
    assert!(!told.contains(PARENT) && !told.contains(&forward.id), "{told}");
    // Without a trace of its own a request begins one.
    assert_eq!(site.curl_bare([&url]).status, 200);
    let told = app.header("traceparent");
    assert!(told.len() == 55 && !told.contains(TRACE) && told.ends_with("-01"), "{told}");
    let spans = collector.trace(&told[3..35], |span| span.name == "GET /");
    assert!(named(&spans, "GET /").parent.is_empty());
    drop(server);

    // Where clients aren't believed.
    let server = site.serve("", &(app_route.clone() + &to(&collector, "follow = false")));
    let url = format!("https://{}/orders", server.https);
    assert_eq!(site.curl_bare(["-H", &traceparent("01"), &url]).status, 200);
    assert!(!app.header("traceparent").contains(TRACE));
    drop(server);

    // Without a collector nothing is changed.
    let server = site.serve("", &app_route);
    let url = format!("https://{}/orders", server.https);
    assert_eq!(site.curl_bare(["-H", &traceparent("01"), &url]).status, 200);
    assert_eq!(app.header("traceparent"), format!("00-{TRACE}-{PARENT}-01"));
}

#[test]
fn what_a_server_that_stops_has_seen_is_sent() {
    let (site, collector) = (Site::new().with("COLLECTOR", "not-secret"), Collector::start());
    let server = site.serve("", &to(&collector, "headers = { authorization = \"Bearer ${COLLECTOR}\" }"));
    put(&site, &server, "last", b"words", &traceparent("01"));
    assert_eq!(server.stop().code(), Some(0));
    assert!(collector.spans().iter().any(|span| span.name == "PUT /files/" && span.trace == TRACE));
    assert_eq!(collector.header("content-type"), "application/x-protobuf");
    assert_eq!(collector.header("authorization"), "Bearer not-secret");
}

#[test]
fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let site = Site::new();
    let gone = free_address();
    let server = site.serve("", &format!("[traces]\nendpoint = \"http://{gone}\"\n"));
    put(&site, &server, "kept", b"all the same", "x-a: b");
    assert_eq!(site.get(&server, "kept").body, b"all the same");
    assert_eq!(server.metric("sealward_trace_spans_total{outcome=\"sent\"}"), 0.0);
    eventually("they are counted as lost", || server.metric("sealward_trace_spans_total{outcome=\"failed\"}") > 0.0);
    server.wait_for_line(|line| line.contains("the collector of traces doesn't take them"));
    assert_eq!(server.stop().code(), Some(0));
}

/// As one that has too much to do. What it didn't take isn't sent again, and nobody waits with it.
#[test]
fn a_collector_that_refuses_is_asked_once_for_each_batch() {
    let collector = Collector::start().answering("503 Service Unavailable\r\nretry-after: 4\r\n");
    let site = Site::new();
    let server = site.serve("", &to(&collector, ""));
    put(&site, &server, "lost", b"words", &traceparent("01"));
    server.wait_for_line(|line| line.contains("the collector of traces") && line.contains("it answers 503"));
    let failed = || server.metric("sealward_trace_spans_total{outcome=\"failed\"}");
    // Those of a batch are counted at once.
    eventually("they are counted", || failed() > 0.0);
    let before = failed();
    let another = TRACE.replace('4', "7");
    put(&site, &server, "taken", b"words", &traceparent("01").replace(TRACE, &another));
    collector.trace(&another, |span| span.name == "PUT /files/");
    assert_eq!(failed(), before);
    let spans = collector.spans();
    let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| &span.id).collect();
    assert_eq!(ids.len(), spans.len(), "none was sent again");
}

#[test]
fn what_is_no_traceparent_begins_a_trace_and_an_operators_rules_are_kept() {
    let (site, collector, app) = (Site::new(), Collector::start(), Collector::start());
    let route = |path: &str, more: &str| {
        format!("[[route]]\npath = \"{path}\"\npublic = true\nforward = {{ upstream = \"app\"{more} }}\n")
    };
    let quiet = ", request = { remove = [\"traceparent\", \"tracestate\"] }";
    let upstream = format!("[[upstream]]\nname = \"app\"\ntargets = [\"http://{}\"]\n", app.address);
    let server = site.serve("", &[route("/", ""), route("/quiet/", quiet), upstream, to(&collector, "")].concat());
    let ask = |path: &str, headers: &[&str]| {
        let url = format!("https://{}{path}", server.https);
        let headers = headers.iter().flat_map(|header| ["-H", *header]);
        assert_eq!(site.curl_bare(headers.chain([url.as_str()])).status, 200);
    };
    let good = traceparent("01");
    for bad in [&[&*good, &*good][..], &["traceparent: 00-1-1-01"], &[&*good.to_uppercase()]] {
        ask("/", bad);
        let told = app.header("traceparent");
        assert!(told.len() == 55 && !told.contains(TRACE), "{bad:?}: {told}");
        assert_eq!(app.header("tracestate"), "", "{bad:?}");
    }
    ask("/", &[&good, "tracestate: a=1", "tracestate: b=2"]);
    assert_eq!(app.header("tracestate"), "a=1,b=2");
    ask("/quiet/", &[&good, "tracestate: a=1"]);
    assert_eq!((app.header("traceparent"), app.header("tracestate")), (String::new(), String::new()));
}
