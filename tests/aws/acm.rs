//! Certificates out of ACM, as moto has it: exported with a key that isn't the chain's.

use serde_json::json;

use crate::{
    check::online,
    standin::{moto, text},
    support::Site,
};

/// The site's configuration with its certificate from ACM.
fn from_acm(arn: &str) -> String {
    let text = Site::config("", "");
    let line = text.lines().find(|line| line.starts_with("tls = ")).expect("one").to_owned();
    text.replace(&line, &format!("tls = {{ source = {{ acm = {{ arn = \"{arn}\", refresh = \"1s\" }} }} }}"))
}

#[test]
fn a_private_cas_certificate_is_exported_and_served() {
    let aws = moto();
    let arn = text(&aws.does(json!({"do": "certificate", "name": "records.example.org"}))["arn"]);
    let site = aws.site();
    let server = site.serve_text(&from_acm(&arn));
    let line = server.wait_for_line(|line| line.contains("certificate published"));
    assert!(line.contains("records.example.org"), "{line}");
    // moto's chain doesn't belong to its leaf: a warning and a metric, and it is served.
    assert!(server.log().contains("was not issued by the one after it"), "{}", server.log());
    let linked = format!("sealward_certificate_chain_linked{{name=\"{}\"}}", "127.0.0.1:0");
    assert!(server.metrics().contains(&linked) && server.metric(&linked) == 0.0, "{}", server.metrics());
    let place = format!("records.example.org:{}:127.0.0.1", server.https.port());
    let url = format!("https://records.example.org:{}/files/k", server.https.port());
    let answer = site.curl(["--insecure", "--resolve", &place, &url]);
    assert_eq!(answer.status, 404, "{answer:?}");
    // Neither the key nor a passphrase is in the log.
    assert!(!server.log().contains("PRIVATE KEY"));
    let (code, words) = online(&site, &from_acm(&arn));
    assert!(words.contains("records.example.org"), "{code}: {words}");
}

#[test]
fn what_cant_be_exported_is_named_as_that() {
    let aws = moto();
    let arn = text(&aws.does(json!({"do": "public_certificate", "name": "public.example.org"}))["arn"]);
    let site = aws.site();
    let log = site.try_serve(&from_acm(&arn), &[]).err().expect("it must not serve");
    assert!(log.contains("can't be exported") && log.contains("Export=ENABLED") && log.contains(&arn), "{log}");
    let gone = arn.replace("certificate/", "certificate/0");
    let log = site.try_serve(&from_acm(&gone), &[]).err().expect("it must not serve");
    assert!(log.contains("ResourceNotFoundException"), "{log}");
}
