//! Several certificates behind one address, chosen by the name a client asks for.

use std::{fs, process::Command};

use sealward::tls::dev;

use crate::support::{Sealward, Site, eventually};

/// Certificates beside the site's own, each in a folder called by its first name.
fn certificates(site: &Site, names: &[&[&str]]) -> String {
    let own =
        "{ source = { files = { cert = \"tls/cert.pem\", key = \"tls/key.pem\", refresh = \"1s\" } } }".to_owned();
    let mut tables = vec![own];
    for names in names {
        make(site, names[0], names);
        let folder = names[0].replace('*', "wild");
        tables.push(format!(
            "{{ source = {{ files = {{ cert = \"{folder}/cert.pem\", key = \"{folder}/key.pem\", refresh = \"1s\" }} }} }}"
        ));
    }
    format!("tls = [{}]", tables.join(", "))
}

/// A certificate for `names` by a key of its own, in the folder `folder`.
fn make(site: &Site, folder: &str, names: &[&str]) {
    let place = site.path(&folder.replace('*', "wild"));
    fs::create_dir_all(&place).expect("makes");
    let names = names.iter().map(|name| format!("DNS:{name}")).collect::<Vec<_>>().join(",");
    let next = place.join("next");
    fs::create_dir_all(&next).expect("makes");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=test", "-addext", &format!("subjectAltName={names}"), "-keyout"])
        .arg(next.join("key.pem"))
        .arg("-out")
        .arg(next.join("cert.pem"))
        .output()
        .expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for file in ["key.pem", "cert.pem"] {
        fs::rename(next.join(file), place.join(file)).expect("moves");
    }
}

fn serve(site: &Site, tls: &str) -> Sealward {
    let text = Site::config("", "");
    let line = text.lines().find(|line| line.starts_with("tls = ")).expect("one").to_owned();
    site.serve_text(&text.replace(&line, tls))
}

/// What openssl is shown when it asks for `name`; `more` are further arguments. Its exit code and words.
fn shown(server: &Sealward, name: Option<&str>, more: &[&str]) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.https.to_string()]).args(more);
    match name {
        Some(name) => command.args(["-servername", name]),
        None => command.arg("-noservername"),
    };
    let output = command.stdin(std::process::Stdio::null()).output().expect("openssl is there");
    let words = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&words).into_owned())
}

/// The alternative names of the certificate that openssl is shown.
fn names_shown(server: &Sealward, name: Option<&str>) -> String {
    let (_, words) = shown(server, name, &[]);
    let begin = words.find("-----BEGIN CERTIFICATE").expect("a certificate");
    let end = words.find("-----END CERTIFICATE-----").expect("its end") + "-----END CERTIFICATE-----".len();
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), &words[begin..end]).expect("writes");
    let text = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(file.path())
        .output()
        .expect("openssl is there");
    String::from_utf8(text.stdout).expect("is text")
}

#[test]
fn each_name_gets_its_certificate_and_others_the_default() {
    let site = Site::new();
    let tls = certificates(&site, &[&["scans.example.org"], &["*.example.org", "example.org"]]);
    let server = serve(&site, &tls);
    for (name, wanted) in [
        (Some("scans.example.org"), "DNS:scans.example.org"),
        (Some("SCANS.Example.org"), "DNS:scans.example.org"),
        (Some("other.example.org"), "DNS:*.example.org"),
        (Some("example.org"), "DNS:*.example.org"),
        (Some("a.b.example.org"), "DNS:localhost"),
        (Some("localhost"), "DNS:localhost"),
        (Some("elsewhere.test"), "DNS:localhost"),
        (None, "DNS:localhost"),
    ] {
        let names = names_shown(&server, name);
        assert!(names.contains(wanted), "{name:?}: {names}");
    }
    // What a client believes, it is served by, whatever the certificate.
    let place = format!("scans.example.org:{}:127.0.0.1", server.https.port());
    let url = format!("https://scans.example.org:{}/files/k", server.https.port());
    let ca = site.path("scans.example.org/cert.pem");
    let token = format!("Authorization: Bearer {}", site.token);
    let output = Command::new("curl")
        .args([
            "--disable",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--resolve",
            &place,
            "-H",
            &token,
            "--cacert",
        ])
        .arg(&ca)
        .arg(&url)
        .output()
        .expect("curl is there");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "404", "{}", String::from_utf8_lossy(&output.stderr));
    // Each has its own expiry in the metrics.
    let metrics = server.metrics();
    let series = metrics.lines().filter(|line| line.starts_with("sealward_certificate_expiry_timestamp_seconds{"));
    assert_eq!(series.count(), 3, "{metrics}");

    // One is changed, and brings other names; the others stay.
    make(&site, "scans.example.org", &["letters.example.org"]);
    eventually("the new one is served", || {
        names_shown(&server, Some("letters.example.org")).contains("DNS:letters.example.org")
    });
    assert!(
        names_shown(&server, Some("scans.example.org")).contains("DNS:*.example.org"),
        "the old name is the wildcard's"
    );
    assert!(names_shown(&server, None).contains("DNS:localhost"));
}

#[test]
fn a_second_certificate_that_is_none_stops_the_start() {
    let site = Site::new();
    let tls = certificates(&site, &[&["scans.example.org"]]);
    dev::ensure(&site.path("other"), &[]).expect("a certificate");
    fs::copy(site.path("other/key.pem"), site.path("scans.example.org/key.pem")).expect("copies");
    let text = Site::config("", "");
    let line = text.lines().find(|line| line.starts_with("tls = ")).expect("one").to_owned();
    let log = site.try_serve(&text.replace(&line, &tls), &[]).err().expect("it must not serve");
    assert!(log.contains("listener 127.0.0.1:0#2") && log.contains("key of another certificate"), "{log}");
}

#[test]
fn a_load_balancers_policy_means_what_it_means_there() {
    let site = Site::new();
    let policy = |name: &str| {
        format!(
            "tls = {{ source = {{ files = {{ cert = \"tls/cert.pem\", key = \"tls/key.pem\" }} }}, policy = \"{name}\" }}"
        )
    };
    let chacha: &[&str] = &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"];
    let gcm: &[&str] = &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    let cbc: &[&str] = &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"];
    for (name, taken, refused) in [
        ("tls12", vec![gcm, chacha, &["-tls1_3"]], vec![cbc, &["-tls1_1"]]),
        ("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", vec![gcm, &["-tls1_3"]], vec![chacha, cbc, &["-tls1_1"]]),
        ("ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09", vec![gcm], vec![chacha, cbc]),
        ("ELBSecurityPolicy-TLS13-1-3-2021-06", vec![&["-tls1_3"]], vec![gcm, &["-tls1_2"]]),
    ] {
        let server = serve(&site, &policy(name));
        for arguments in taken {
            let (ok, words) = shown(&server, None, arguments);
            assert!(ok && words.contains("BEGIN CERTIFICATE"), "{name} {arguments:?}: {words}");
        }
        for arguments in refused {
            let (ok, words) = shown(&server, None, arguments);
            assert!(!ok && !words.contains("BEGIN CERTIFICATE"), "{name} {arguments:?}: {words}");
        }
    }
}
