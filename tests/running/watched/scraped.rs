//! A real Prometheus scrapes the real binary, and every rule and every panel has a value.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, SerialNumber,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{
    ALERTS, RECORDING, RULES, between, compared, families, list, panel_queries, program, promtool, read, replaced,
    root, said,
};
use crate::{
    client::Raw,
    collector::Collector,
    engines::Engine,
    standin::{StandIn, moto},
    support::{SOON, Sealward, Site, eventually},
};

/// Of everything that metrics speak of, one.
const CONFIG: &str = r#"
[[listener]]
bind = "127.0.0.1:0"
[listener.tls]
ocsp = "staple.der"
ticket_secret = { secret = "tickets" }
[listener.tls.source.files]
cert = "tls/cert.pem"
key = "tls/key.pem"
[[listener]]
bind = "127.0.0.1:0"
[listener.tls]
client_auth = "request"
client_trust = "clients.pem"
client_revocation = "revoked.pem"
[listener.tls.source.files]
cert = "tls/cert.pem"
key = "tls/key.pem"
[keys]
provider = "kms"
key_check = "1s"
# So that not everything comes out of a cache.
max_age = "1s"
unwrapped_age = "1s"
[[class]]
name = "records"
kms_key = "RECORDS_KEY"
bucket = "watched"
prefix = "records/"
exclusive = true
[[class]]
name = "spare"
kms_key = "SPARE_KEY"
bucket = "watched"
prefix = "spare/"
[[route]]
path = "/files/"
seal = { class = "records" }
[[route]]
path = "/spare/"
seal = { class = "spare" }
[[route]]
path = "/app/"
public = true
quotas = ["few"]
forward = { upstream = "app" }
[[upstream]]
name = "app"
# Nobody is behind the first, so that requests are tried again.
targets = ["http://127.0.0.1:1", "http://APP"]
[upstream.health]
interval = "1s"
unhealthy = 100
[[quota]]
name = "few"
requests = 2
burst = 2
[[secret]]
name = "tickets"
source = { secrets_manager = "watched/tickets" }
refresh = "1s"
[[secret]]
name = "level"
source = { parameter = "/watched/level" }
refresh = "1s"
[catalog]
url = "sqlite:catalog.db"
on_unavailable = "spool"
spool = "spool"
[identity]
tokens = "tokens.json"
[limits]
uploads = 1
buffer_wait = "500ms"
[admin]
bind = "127.0.0.1:0"
[traces]
endpoint = "http://APP"
[log]
format = "json"
level = { secret = "level" }
[log.access]
path = "access.log"
"#;
const BUCKET: &str = "watched";
const LEVEL: &str = "/watched/level";

/// The rule files and the example's configuration are loaded as they are, but for the address and
/// the pace: a look each second. `rate` over five minutes has a value from the second look on; what a
/// key comes to in a week was recorded before by somebody else, and is laid beside it.
#[test]
fn every_rule_and_every_panel_has_a_value_of_the_real_server() {
    let watched = Watched::start();
    let prometheus = Prometheus::start(&watched);
    watched.traffic(0);
    // From here on one class's key can't be used, and one secret isn't there.
    watched.aws.does(json!({"do": "disable", "arn": watched.spare}));
    watched.aws.does(json!({"do": "forget_parameter", "name": LEVEL}));

    let mut waiting = panel_queries();
    assert!(waiting.len() > 90, "the reader of dashboards reads nothing");
    let rules = prometheus.rules();
    let written = [RECORDING, ALERTS].map(|file| read(file).matches("\n      - ").count());
    assert_eq!(rules.len(), written.iter().sum::<usize>(), "it has loaded all of them");
    waiting
        .extend(rules.iter().flat_map(|rule| rule.queries.iter().map(move |query| (rule.name.clone(), query.clone()))));
    let tampered =
        json!({"alertname": "SealwardTamper", "severity": "page", "job": "sealward", "reason": "message_id"});
    let until = Instant::now() + 4 * SOON;
    for round in 1.. {
        watched.traffic(round);
        // What has had a value once needn't be asked again.
        waiting.retain(|(_, query)| !prometheus.has_a_number(query));
        let fires = prometheus.firing().contains(&tampered);
        if waiting.is_empty() && fires {
            break;
        }
        assert!(Instant::now() < until, "no value: {waiting:#?}; SealwardTamper fires: {fires}");
    }
    for rule in prometheus.rules() {
        assert_eq!(rule.health, "ok", "{}: {}", rule.name, rule.error);
    }
    // None of it was a family that nobody has filled.
    let metrics = watched.server.metrics();
    for family in families() {
        let has = |line: &str| ["{", " ", "_bucket{"].iter().any(|next| line.starts_with(&format!("{family}{next}")));
        assert!(metrics.lines().any(has), "{family} has no series: what asks for it shows nothing");
    }
}

/// A server with one of everything that its metrics speak of, and what stands around it.
struct Watched {
    aws: &'static StandIn,
    site: Site,
    server: Sealward,
    /// The keys of the classes `records` and `spare`.
    records: String,
    spare: String,
    _app: Collector,
}

impl Watched {
    fn start() -> Self {
        let (aws, app) = (moto(), Collector::start());
        let (records, spare) = (aws.key(), aws.key());
        aws.bucket(BUCKET);
        aws.does(json!({"do": "secret", "name": "watched/tickets", "value": "t".repeat(64)}));
        aws.does(json!({"do": "parameter", "name": LEVEL, "value": "info"}));
        let site = aws.site();
        stapled(&site);
        revocations(&site);
        let text = CONFIG.replace("RECORDS_KEY", &records).replace("SPARE_KEY", &spare);
        let text = text.replace("APP", &app.address.to_string());
        // Makes the catalogue's tables, and looks for nothing that was left.
        site.serve_text(&replaced(&text, "exclusive = true\n", "")).kill();
        left_unfinished(aws, &site);
        let server = site.serve_text(&text);
        Self { aws, site, server, records, spare, _app: app }
    }

    /// One of each kind of request; other names in each round.
    fn traffic(&self, round: usize) {
        let Self { aws, site, server, .. } = self;
        let name = format!("object-{round}");
        site.put(server, &name, &[b'a'; 1000]);
        let spare = format!("https://{}/spare/{name}", server.https);
        // It may have no key by now.
        site.curl(["-T".to_owned(), site.path("upload.tmp").display().to_string(), spare]);
        assert_eq!(site.get(server, &name).status, 200);
        for _ in 0..2 {
            assert_eq!(site.curl(["-r", "1-3", &server.url(&name)]).status, 206);
        }
        for missing in [server.url("nothing"), format!("https://{}/elsewhere", server.https)] {
            assert_eq!(site.curl([missing]).status, 404);
        }
        let (from, moved) = (format!("records/{name}"), "records/moved");
        aws.does(json!({"do": "copy", "bucket": BUCKET, "key": from, "to": moved}));
        assert_eq!(site.get(server, "moved").status, 502);
        let app = format!("https://{}/app/", server.https);
        for _ in 0..4 {
            let answer = site.curl_bare([&app]);
            assert!(matches!(answer.status, 200 | 429), "{answer:?}");
        }
        let both = ["--http1.1", "-H", "Content-Length: 1", "-H", "Transfer-Encoding: chunked", "-d", "x", &app];
        assert_eq!(site.curl_bare(both).status, 400, "two lengths");
        self.crowd();
        server.signal("HUP");
    }

    /// An upload that holds the only place, and one that waits for it in vain.
    fn crowd(&self) {
        let Self { site, server, .. } = self;
        let mut held = Raw::new(site, server);
        held.head("PUT /files/held", "Content-Length: 2\r\n");
        held.send("h");
        eventually("it is under way", || server.metric("sealward_uploads_in_flight") == 1.0);
        let refused = site.curl(["-T", &site.path("upload.tmp").display().to_string(), &server.url("refused")]);
        assert_eq!(refused.status, 503, "{refused:?}");
        held.send("i");
        let answer = held.answer();
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }
}

/// Has openssl say of the site's certificate that it is good, into `staple.der`.
fn stapled(site: &Site) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(site.path("")).output().expect("openssl is there");
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    let serial = openssl(&["x509", "-in", "tls/cert.pem", "-noout", "-serial"]);
    let serial = serial.trim().trim_start_matches("serial=");
    let index = format!("V\t401231235959Z\t\t{serial}\tunknown\t/CN=localhost\n");
    fs::write(site.path("index.txt"), index).expect("writes");
    openssl(&["ocsp", "-issuer", "tls/ca.pem", "-cert", "tls/cert.pem", "-reqout", "request.der", "-no_nonce"]);
    let asked = ["ocsp", "-index", "index.txt", "-reqin", "request.der", "-respout", "staple.der", "-nmin", "600"];
    let by = ["-CA", "tls/ca.pem", "-rsigner", "tls/ca.pem", "-rkey", "tls/ca-key.pem"];
    openssl(&[&asked[..], &by].concat());
}

/// An authority of clients in `clients.pem`, and its list of nobody in `revoked.pem`.
fn revocations(site: &Site) {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, "clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs");
    let now = OffsetDateTime::now_utc();
    let list = CertificateRevocationListParams {
        this_update: now - Duration::hours(1),
        next_update: now + Duration::days(1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    fs::write(site.path("clients.pem"), authority.pem()).expect("writes");
    let list = list.signed_by(&authority).expect("signs").pem().expect("is PEM");
    fs::write(site.path("revoked.pem"), list).expect("writes");
}

/// An upload that was begun in the bucket long ago, and never finished; moto asks nobody for a signature.
fn left_unfinished(aws: &StandIn, site: &Site) {
    let url = format!("{}/{BUCKET}/records/left?uploads", aws.endpoint);
    let begun = Command::new("curl").args(["--disable", "-sS", "--max-time", "60", "-X", "POST", &url]).output();
    let answer = String::from_utf8_lossy(&begun.expect("curl is there").stdout).into_owned();
    let upload = between(&answer, "<UploadId>", "</UploadId>");
    assert!(!upload.is_empty(), "no upload: {answer}");
    // And the catalogue has known of it since 1970.
    let id = hex::encode(digest(&SHA256, format!("records\0{upload}").as_bytes()));
    Engine::File(&site.path("catalog.db")).sql(&format!(
        "INSERT INTO uploads (id, class, name, upload, since) VALUES ('{id}', 'records', 'left', '{upload}', 0)"
    ));
}

/// A Prometheus of the distribution's, as the example configures it, with a folder of its own.
struct Prometheus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

struct Rule {
    name: String,
    health: String,
    error: String,
    /// Its expression; of an alert what stands left of each comparison.
    queries: Vec<String>,
}

impl Prometheus {
    fn start(watched: &Watched) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        for file in [RECORDING, ALERTS] {
            let name = Path::new(file).file_name().expect("a name");
            fs::copy(root().join(file), path.join(name)).expect("copies");
        }
        let text = read(&format!("{RULES}/prometheus.yml"));
        let text = replaced(&text, "sealward:9464", &watched.server.admin.to_string());
        let text = replaced(&text, "scrape_interval: 15s", "scrape_interval: 1s");
        let text = replaced(&text, "evaluation_interval: 30s", "evaluation_interval: 1s");
        fs::write(path.join("prometheus.yml"), text).expect("writes");
        week(path, &watched.records);
        let child = Command::new(program("prometheus"))
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"])
            .current_dir(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut started = Self { child, address: String::new(), _folder: folder };
        let mut lines = BufReader::new(started.child.stderr.take().expect("is piped")).lines().map_while(Result::ok);
        let mut log = Vec::new();
        let ready = lines.by_ref().any(|line| {
            if line.contains("msg=\"Listening on\"") {
                line.rsplit("address=").next().unwrap_or_default().trim().clone_into(&mut started.address);
            }
            let ready = line.contains("Server is ready to receive web requests");
            log.push(line);
            ready
        });
        assert!(ready && !started.address.is_empty(), "it doesn't serve: {log:#?}");
        // Nobody reads on: its log must not stand in its way.
        std::thread::spawn(move || lines.for_each(drop));
        started
    }

    fn ask(&self, path: &str, query: &str) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["--disable", "-sS", "--max-time", "60", "--get", "--data-urlencode", &format!("query={query}")]);
        let output = curl.arg(format!("http://{}/api/v1/{path}", self.address)).output().expect("curl is there");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(answer["status"], "success", "{path} {query}: {answer} {}", said(&output));
        answer["data"].clone()
    }

    /// Whether `query` has a series at all, and one whose value is a number: a share of nothing isn't.
    fn has_a_number(&self, query: &str) -> bool {
        let found = self.ask("query", query);
        list(&found["result"]).iter().any(|series| {
            let value = series["value"][1].as_str().and_then(|value| value.parse::<f64>().ok());
            value.is_some_and(f64::is_finite)
        })
    }

    fn rules(&self) -> Vec<Rule> {
        let found = self.ask("rules", "");
        let rules = list(&found["groups"]).iter().flat_map(|group| list(&group["rules"]));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rules
            .map(|rule| {
                let query = text(&rule["query"]);
                let queries = if rule["type"] == "alerting" { compared(&query) } else { vec![query] };
                let (name, health, error) = (text(&rule["name"]), text(&rule["health"]), text(&rule["lastError"]));
                Rule { name, health, error, queries }
            })
            .collect()
    }

    /// The labels of the alerts that fire.
    fn firing(&self) -> Vec<Value> {
        let found = self.ask("alerts", "");
        let firing = list(&found["alerts"]).iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"].clone()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is recorded of `key` in three days that end some hours ago: what has to be over before now is judged by it.
fn week(folder: &Path, key: &str) {
    const NAME: &str = "job_key_use:sealward_data_key_uses:rate1h";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut text = format!("# TYPE {NAME} gauge\n");
    for used in ["seal", "open"] {
        for ago in (3 * 3600..3 * 24 * 3600).rev().step_by(300) {
            let labels = format!("job=\"sealward\",key=\"{key}\",use=\"{used}\"");
            writeln!(text, "{NAME}{{{labels}}} 0.001 {}", now - ago).expect("is written");
        }
    }
    fs::write(folder.join("week.txt"), text + "# EOF\n").expect("writes");
    let (good, words) = promtool(folder, &["tsdb", "create-blocks-from", "openmetrics", "week.txt", "data"]);
    assert!(good, "{words}");
}
