//! Certificates out of an authority that speaks ACME: pebble, which looks at us as a
//! public one would.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
};

use serde_json::{Value, json};

use crate::support::{
    Sealward, Site, eventually, free_address,
    swapped::{leaf, under_load_of},
};

/// `tests/peers/pebble.py` and what it has started; it ends with its input.
struct Pebble {
    child: Child,
    jobs: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    directory: String,
    root: String,
}

impl Pebble {
    /// One that looks for handshakes at `tls` and for requests at `http`, and whose
    /// certificates last for so many seconds.
    fn start(tls: SocketAddr, http: SocketAddr, validity: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/pebble.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args(["--tls-port", &tls.port().to_string(), "--http-port", &http.port().to_string()])
            .args(["--validity", &validity.to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut answers = BufReader::new(child.stdout.take().expect("is piped"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("answers");
        let said: Value = serde_json::from_str(&line).expect("pebble starts: `make test` installs it");
        let jobs = Mutex::new(Some((child.stdin.take().expect("is piped"), answers)));
        let text = |name: &str| said[name].as_str().expect("text").to_owned();
        Self { child, jobs, directory: text("directory"), root: text("root") }
    }

    fn does(&self, job: &str) -> Value {
        let mut jobs = self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (input, answers) = jobs.as_mut().expect("runs");
        writeln!(input, "{}", json!({"do": job})).expect("takes a job");
        let mut line = String::new();
        answers.read_line(&mut line).expect("answers");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(answer["ok"], true, "{job}: {answer}");
        answer
    }

    fn count(&self, what: &str) -> u64 {
        self.does("orders")[what].as_u64().expect("a number")
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        // Its input's end is its own, and that of all it has started.
        self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let _ = self.child.wait();
    }
}

/// Two addresses that are free now: pebble has to be told of ports before we listen.
fn free() -> [SocketAddr; 2] {
    [free_address(), free_address()]
}

fn text(pebble: &Pebble, [tls, http]: [SocketAddr; 2], challenge: &str) -> String {
    let Pebble { directory, root, .. } = pebble;
    let acme = format!(
        "tls = {{ source = {{ acme = {{ directory = \"{directory}\", root = \"{root}\", \
         domains = [\"one.example.org\", \"two.example.org\"], challenge = \"{challenge}\" }} }} }}"
    );
    let text = Site::config("", &format!("[[listener]]\nbind = \"{http}\"\n"));
    let line = text.lines().find(|line| line.starts_with("tls = ")).expect("one").to_owned();
    text.replace(&line, &acme).replacen("127.0.0.1:0", &tls.to_string(), 1)
}

fn ready(server: &Sealward, site: &Site) -> (u16, String) {
    let answer = site.curl_bare([format!("http://{}/readyz", server.admin)]);
    (answer.status, answer.text())
}

/// The names and the end of what is served.
fn shown(server: &Sealward) -> String {
    let mut child = Command::new("openssl")
        .args(["x509", "-noout", "-text"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is there");
    let pem = leaf(server) + "-----END CERTIFICATE-----\n";
    child.stdin.take().expect("is piped").write_all(pem.as_bytes()).expect("is sent");
    String::from_utf8(child.wait_with_output().expect("ends").stdout).expect("text")
}

#[test]
fn a_certificate_is_ordered_kept_and_renewed_under_load() {
    let site = Site::new();
    let free = free();
    let pebble = Pebble::start(free[0], free[1], 30);
    let server = site.serve_text(&text(&pebble, free, "tls-alpn-01"));
    server.wait_for_line(|line| line.contains("certificate published"));
    eventually("it is ready", || ready(&server, &site).0 == 200);
    let words = shown(&server);
    assert!(words.contains("DNS:one.example.org") && words.contains("DNS:two.example.org"), "{words}");
    assert_eq!((pebble.count("accounts"), pebble.count("certificates")), (1, 1));

    // Kept: the next start orders nothing, and serves at once.
    let first = leaf(&server);
    drop(server);
    let server = site.serve_text(&text(&pebble, free, "tls-alpn-01"));
    assert_eq!(leaf(&server), first);
    for file in std::fs::read_dir(site.path("acme")).expect("is there").flatten() {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("is there").permissions());
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
    // A third of its life before its end there is another, and nobody notices.
    let root = site.path("pebble-root.pem");
    std::fs::write(&root, pebble.does("root")["pem"].as_str().expect("PEM")).expect("writes");
    let place = format!("one.example.org:{}:127.0.0.1", free[0].port());
    let url = format!("https://one.example.org:{}/files/nothing", free[0].port());
    let args = ["--cacert", root.to_str().expect("a path"), "--resolve", &place, &url];
    under_load_of(&site, &server, &args, || {});
    assert!(pebble.count("certificates") >= 2);
    assert_eq!(pebble.count("accounts"), 1, "the account is kept too");
    assert!(!server.log().contains("PRIVATE KEY"));
}

#[test]
fn a_listener_without_tls_answers_the_authority_and_nobody_else() {
    let site = Site::new();
    let free = free();
    let pebble = Pebble::start(free[0], free[1], 3600);
    // Away at first: we serve nothing, say so, and go on asking.
    pebble.does("stop");
    let server = site.serve_text(&text(&pebble, free, "http-01"));
    server.wait_for_line(|line| line.contains("new certificate refused"));
    let (status, words) = ready(&server, &site);
    assert!(status == 503 && words.contains("has no certificate yet"), "{words}");
    // A flood of wishes is not one of orders.
    for _ in 0..20 {
        server.signal("HUP");
    }
    let refused = site.curl(["--insecure", &server.url("none")]);
    assert_eq!(refused.status, 0, "{refused:?}");
    pebble.does("start");
    // Who is told to looks at once, but not twice in three seconds.
    eventually("a certificate is there", || {
        server.signal("HUP");
        server.log().contains("certificate published")
    });
    assert_eq!(pebble.count("accounts"), 1);
    eventually("it is ready", || ready(&server, &site).0 == 200);
    assert!(shown(&server).contains("DNS:two.example.org"));

    let plain = |path: &str| site.curl_bare(["-H", "host: files.example:80", &format!("http://{}{path}", free[1])]);
    let answer = plain("/files/a?b");
    assert_eq!((answer.status, answer.header("location")), (308, "https://files.example/files/a?b"));
    assert_eq!(plain("/.well-known/acme-challenge/none").status, 404);
    let upload = site.curl_bare(["-X", "PUT", "-d", "x", &format!("http://{}/files/a", free[1])]);
    assert_eq!(upload.status, 308, "nothing is taken there");
}

#[test]
fn an_authority_that_forgets_or_refuses_costs_nothing_but_a_renewal() {
    let site = Site::new();
    let free = free();
    let pebble = Pebble::start(free[0], free[1], 24);
    let server = site.serve_text(&text(&pebble, free, "tls-alpn-01"));
    server.wait_for_line(|line| line.contains("certificate published"));
    let first = leaf(&server);
    // It comes back without our account, and with another root.
    pebble.does("stop");
    pebble.does("start");
    server.wait_for_line(|line| line.contains("knows our account no more"));
    eventually("it is renewed", || leaf(&server) != first);

    // Where it looks there is somebody else: the order is refused, and why is said.
    drop(server);
    std::fs::remove_dir_all(site.path("acme")).expect("is there");
    let elsewhere = [free_address(), free[1]];
    let server = site.serve_text(&text(&pebble, elsewhere, "tls-alpn-01"));
    let line = server.wait_for_line(|line| line.contains("new certificate refused"));
    assert!(line.contains("tls-alpn-01 challenge") && line.contains("and there is none yet"), "{line}");
}
