//! A certificate of ACM that is renewed under load, and ACM away.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::{
    double::{Double, Fault, World},
    support::{Sealward, Site, eventually},
};

const ARN: &str = "arn:aws:acm:eu-west-1:111122223333:certificate/12345678-1234-1234-1234-123456789012";

/// A certificate of the site's own CA, made anew, under this serial.
fn certificate(site: &Site, serial: &str) -> (String, String, String) {
    let next = site.path(&format!("made-{serial}"));
    std::fs::create_dir_all(&next).expect("makes");
    for name in ["ca.pem", "ca-key.pem"] {
        let _ = std::fs::copy(site.path("tls").join(name), next.join(name));
    }
    sealward::tls::dev::ensure(&next, &[]).expect("a certificate");
    let read = |name: &str| std::fs::read_to_string(next.join(name)).expect("reads");
    (serial.to_owned(), read("cert.pem"), read("key.pem"))
}

fn serve(site: &Site, double: &Double) -> Sealward {
    let text = Site::config("", "");
    let line = text.lines().find(|line| line.starts_with("tls = ")).expect("one").to_owned();
    let tls = format!("tls = {{ source = {{ acm = {{ arn = \"{ARN}\", refresh = \"1s\" }} }} }}");
    site.serve_among(&text.replace(&line, &tls), &double.environment())
}

/// The leaf that openssl is shown.
fn leaf(server: &Sealward) -> String {
    let output = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &server.https.to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is there");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = words.find("-----BEGIN CERTIFICATE").expect("a certificate");
    let end = words.find("-----END CERTIFICATE-----").expect("its end");
    words[begin..end].to_owned()
}

#[test]
fn a_renewed_certificate_is_served_and_no_request_fails() {
    let site = Site::new();
    let double = Double::start(World { certificate: Some(certificate(&site, "01")), ..World::default() });
    let server = serve(&site, &double);
    let (first, exports) = (leaf(&server), double.calls("ExportCertificate").0);
    let (over, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let url = server.url("nothing");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    // The name of a leaf is beside the point here: each run has a CA of its own.
                    let answer = site.curl(["--insecure", &url]);
                    asked.fetch_add(1, Relaxed);
                    if answer.status != 404 {
                        failed.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        eventually("requests go on", || asked.load(Relaxed) > 20);
        double.world().certificate = Some(certificate(&site, "02"));
        eventually("the new one is served", || leaf(&server) != first);
        let then = asked.load(Relaxed);
        eventually("requests go on", || asked.load(Relaxed) > then + 20);
        over.store(true, Relaxed);
    });
    assert_eq!(failed.load(Relaxed), 0);
    assert_eq!(double.calls("ExportCertificate").0, exports + 1, "exported once, however often it was described");

    // Away, denied, or damaged: the old one serves, and it is said once.
    let served = leaf(&server);
    let refused = "sealward_certificate_loads_total{name=\"127.0.0.1:0\",outcome=\"refused\"}";
    double.plan("DescribeCertificate", 1, 1 << 20, Fault::Refuse(400, "AccessDeniedException"));
    eventually("it is told", || server.metric(refused) > 0.5);
    assert!(server.log().contains("allow acm:DescribeCertificate"));
    double.calm();
    let mut mismatched = certificate(&site, "03");
    mismatched.2 = certificate(&site, "04").2;
    double.world().certificate = Some(mismatched);
    eventually("it is refused", || server.log().contains("is the key of another certificate"));
    assert_eq!(leaf(&server), served);
    double.world().certificate = Some(certificate(&site, "05"));
    eventually("a good one is served", || leaf(&server) != served);
    assert!(!server.log().contains("PRIVATE KEY"));
}
