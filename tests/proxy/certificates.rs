//! What an app is told of a client's certificate.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SerialNumber,
};

use crate::{
    apps::{ask, said, to},
    nginx::Nginx,
    support::{Sealward, Site},
};

/// Makes `clients.pem`, and `client.pem` and `client.key` of that authority.
fn made(site: &Site) {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, "clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs");
    let mut params = CertificateParams::new(vec!["imaging.example".into()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, "imaging");
    params.serial_number = Some(SerialNumber::from(0x00c0_ffee_u64));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &authority).expect("signs");
    fs::write(site.path("clients.pem"), authority.pem()).expect("writes");
    fs::write(site.path("client.pem"), cert.pem()).expect("writes");
    fs::write(site.path("client.key"), key.serialize_pem()).expect("writes");
}

fn serve(site: &Site, tls: &str, more: &str) -> Sealward {
    let text = Site::config("", more);
    site.serve_text(&text.replacen(" } } }", &format!(" }} }}, {tls} }}"), 1))
}

#[test]
fn a_certificate_is_told_as_a_load_balancer_tells_it() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    made(&site);
    let (cert, key) = (site.path("client.pem"), site.path("client.key"));
    let with = ["--cert", cert.to_str().expect("a path"), "--key", key.to_str().expect("a path")];
    let spoofed = [
        "-H",
        "X-Amzn-Mtls-Clientcert: spoofed",
        "-H",
        "x-amzn-mtls-clientcert-subject: CN=admin",
        "-H",
        "X-Amzn-Mtls-Anything: 1",
    ];

    let server = serve(&site, "client_auth = \"request\", client_trust = \"clients.pem\"", &to(&[app.url()], ""));
    let answer = ask(&site, &server, "/", &[&with[..], &spoofed].concat());
    assert!(said(&answer, "mtls").contains("CN=imaging"), "{answer:?}");
    assert!(
        said(&answer, "serial").eq_ignore_ascii_case("c0ffee") || said(&answer, "serial").ends_with("c0ffee"),
        "{answer:?}"
    );
    assert!(said(&answer, "leaf").starts_with("-----BEGIN%20CERTIFICATE-----%0A"), "{answer:?}");
    assert_eq!(said(&answer, "clientcert"), "", "that is for one that isn't judged");
    // Without one nothing is told, whatever is said.
    let answer = ask(&site, &server, "/", &spoofed);
    for name in ["mtls", "serial", "leaf", "clientcert", "anything"] {
        assert_eq!(said(&answer, name), "", "{name}");
    }
    drop(server);

    // And as a caller by its name.
    let known = "[[identity.mtls]]\nname = \"imaging\"\nsan = \"imaging.example\"\n";
    let closed = to(&[app.url()], known).replace("public = true\n", "");
    let server = serve(&site, "client_auth = \"request\", client_trust = \"clients.pem\"", &closed);
    assert_eq!(said(&ask(&site, &server, "/", &with), "caller"), "imaging");
    assert_eq!(ask(&site, &server, "/", &[]).status, 401);
    drop(server);

    let server = serve(&site, "client_auth = \"passthrough\"", &to(&[app.url()], ""));
    let answer = ask(&site, &server, "/", &[&with[..], &spoofed].concat());
    let told = said(&answer, "clientcert");
    assert!(
        told.starts_with("-----BEGIN%20CERTIFICATE-----%0A") && told.ends_with("-----END%20CERTIFICATE-----%0A"),
        "{told}"
    );
    assert_eq!(said(&answer, "mtls"), "", "nothing that we haven't judged is said as ours");
}
