//! A certificate of ACM that is renewed under load, and ACM away.

use crate::{
    double::{Double, Fault, World},
    support::{
        Sealward, Site, eventually,
        swapped::{leaf, made, under_load},
    },
};

const ARN: &str = "arn:aws:acm:eu-west-1:111122223333:certificate/12345678-1234-1234-1234-123456789012";

/// A certificate of the site's own CA, made anew, under this serial.
fn certificate(site: &Site, serial: &str) -> (String, String, String) {
    let (cert, key) = made(site, &format!("renewed-{serial}.example"));
    (serial.to_owned(), cert, key)
}

fn serve(site: &Site, double: &Double) -> Sealward {
    let text = Site::config("", "");
    let line = text.lines().find(|line| line.starts_with("tls = ")).expect("one").to_owned();
    let tls = format!("tls = {{ source = {{ acm = {{ arn = \"{ARN}\", refresh = \"1s\" }} }} }}");
    site.serve_among(&text.replace(&line, &tls), &double.environment())
}

#[test]
fn a_renewed_certificate_is_served_and_no_request_fails() {
    let site = Site::new();
    let double = Double::start(World { certificate: Some(certificate(&site, "01")), ..World::default() });
    let server = serve(&site, &double);
    let exports = double.calls("ExportCertificate").0;
    under_load(&site, &server, || double.world().certificate = Some(certificate(&site, "02")));
    assert_eq!(double.calls("ExportCertificate").0, exports + 1, "exported once, however often it was described");

    // Away, denied, or damaged: the old one serves, and it is said once.
    let served = leaf(&server);
    let refused = "sealward_certificate_loads_total{name=\"127.0.0.1:0\",outcome=\"refused\"}";
    double.plan("DescribeCertificate", 1, 1 << 20, Fault::Refuse(400, "AccessDeniedException"));
    eventually("it is told", || server.metric(refused) > 0.5);
    server.wait_for_line(|line| line.contains("allow acm:DescribeCertificate"));
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
