//! OCSP responses that openssl's responder signs, sent along with a certificate.

use std::{fs, process::Command};

use crate::support::{Sealward, Site, eventually, swapped::made};

/// Has openssl answer for the site's certificate in `cert` as `state` says (`V` valid, `R`
/// revoked), good for `minutes`, into `staple.der`.
fn respond(site: &Site, cert: &str, state: char, minutes: i64) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(site.path("")).output().expect("openssl is there");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let serial = openssl(&["x509", "-in", cert, "-noout", "-serial"]);
    let serial = serial.trim().trim_start_matches("serial=");
    let revoked = if state == 'R' { "260101000000Z" } else { "" };
    let index = format!("{state}\t401231235959Z\t{revoked}\t{serial}\tunknown\t/CN=localhost\n");
    fs::write(site.path("index.txt"), index).expect("writes");
    let ca = ["-CA", "tls/ca.pem", "-rsigner", "tls/ca.pem", "-rkey", "tls/ca-key.pem"];
    openssl(&["ocsp", "-issuer", "tls/ca.pem", "-cert", cert, "-reqout", "request.der", "-no_nonce"]);
    let minutes = minutes.to_string();
    let mut args =
        vec!["ocsp", "-index", "index.txt", "-reqin", "request.der", "-respout", "staple.new", "-nmin", &minutes];
    args.extend(ca);
    openssl(&args);
    fs::rename(site.path("staple.new"), site.path("staple.der")).expect("is there");
}

/// What openssl says of the response that came with the handshake.
fn stapled(server: &Sealward) -> bool {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &server.https.to_string(), "-status"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is there");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        words.contains("OCSP response: no response sent") || words.contains("OCSP Response Status: successful"),
        "{words}"
    );
    words.contains("Cert Status: good")
}

fn serve(site: &Site) -> Sealward {
    site.serve_text(&Site::config("", "").replacen(" } } }", " } }, ocsp = \"staple.der\" }", 1))
}

#[test]
fn a_response_is_sent_while_it_is_good_and_of_the_certificate_served() {
    let site = Site::new();
    respond(&site, "tls/cert.pem", 'V', 60);
    let server = serve(&site);
    assert!(stapled(&server));
    let series = "sealward_ocsp_staple_expiry_timestamp_seconds{name=\"127.0.0.1:0\"}";
    assert!(server.metric(series) > 1.0);

    // Another certificate, of which there is no response yet.
    let (cert, key) = made(&site, "next.example");
    fs::write(site.path("tls/cert.pem"), cert).expect("writes");
    fs::write(site.path("tls/key.pem"), key).expect("writes");
    server.signal("HUP");
    eventually("the older response isn't sent with it", || !stapled(&server));
    eventually("and that is told", || server.metric(series) == 0.0);
    server.wait_for_line(|line| line.contains("is of another certificate"));
    respond(&site, "tls/cert.pem", 'V', 60);
    server.signal("HUP");
    eventually("its own is", || stapled(&server));

    // Rubbish in its place: what was sent goes on until its end.
    fs::write(site.path("staple.der"), "rubbish").expect("writes");
    server.signal("HUP");
    server.wait_for_line(|line| line.contains("is no OCSP response"));
    assert!(stapled(&server));
}

#[test]
fn a_response_that_is_none_leaves_the_certificate_alone() {
    let site = Site::new();
    let refused = |words: &str| {
        let server = serve(&site);
        let line = server.wait_for_line(|line| line.contains("isn't sent along"));
        assert!(line.contains(words), "{line}");
        assert!(!stapled(&server), "{words}");
        assert_eq!(site.get(&server, "nothing").status, 404, "and it serves");
    };
    refused("can't be read");
    respond(&site, "tls/cert.pem", 'R', 60);
    refused("not good");
    fs::write(site.path("staple.der"), b"\x30\x03\x0a\x01\x06").expect("writes");
    refused("gave no answer (status 6)");
    respond(&site, "tls/cert.pem", 'V', 60);
    let whole = fs::read(site.path("staple.der")).expect("reads");
    for cut in [0, 1, 20, whole.len() / 2, whole.len() - 1] {
        fs::write(site.path("staple.der"), &whole[..cut]).expect("writes");
        refused("is no OCSP response");
    }
}
