//! Certificates, ours and clients', and authorities.

use super::*;

#[test]
fn certificates_and_policies() {
    let head = "[[listener]]\nbind = \"127.0.0.1:8443\"\n";
    let one =
        |name: &str, more: &str| format!("{{ source = {{ files = {{ cert = \"{name}\", key = \"k\" }} }}{more} }}");
    let parsed = |tls: &str| parse(&format!("{head}tls = {tls}\n"));
    for (name, policy) in [
        ("tls12", TlsPolicy::Tls12),
        ("ELBSecurityPolicy-TLS13-1-3-2021-06", TlsPolicy::Tls13),
        ("ELBSecurityPolicy-TLS13-1-3-PQ-2025-09", TlsPolicy::Tls13),
        ("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", TlsPolicy::Tls12Gcm),
        ("ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09", TlsPolicy::Tls12Gcm),
    ] {
        let config = parsed(&one("a", &format!(", policy = \"{name}\""))).expect(name);
        assert_eq!(tls_of(&config).policy, policy, "{name}");
    }
    let list = format!("[{}, {}]", one("a", ", policy = \"tls12\""), one("b", ""));
    let config = parsed(&list).expect("a list");
    let listener = &config.listeners[0];
    let names: Vec<_> = tls_of(&config)
        .certificates
        .iter()
        .map(|certificate| match &certificate.source {
            CertificateSource::Files { cert, .. } => cert.file_name().unwrap().to_str().unwrap().to_owned(),
            source => panic!("{source:?}"),
        })
        .collect();
    assert_eq!((names, tls_of(&config).policy), (vec!["a".to_owned(), "b".to_owned()], TlsPolicy::Tls12));
    assert_eq!(
        (listener.certificate(0), listener.certificate(1)),
        ("127.0.0.1:8443".into(), "127.0.0.1:8443#2".into())
    );
    for (tls, title) in [
        (format!("[{}, {}]", one("a", ""), one("b", ", policy = \"tls12\"")), "`policy` holds for the whole listener"),
        (format!("[{}, 3]", one("a", "")), "must be a list of tables"),
        ("[]".to_owned(), "must be a table"),
        (format!("[{}, {{ }}]", one("a", "")), "lacks `source`"),
    ] {
        let faults = parsed(&tls).expect_err(&tls).render(false);
        assert!(faults.contains(title), "{tls}: {faults}");
    }
}

#[test]
fn what_is_asked_of_clients_and_whose_they_are() {
    let parsed = |tls: &str, identity: &str| {
        let text = GOOD.replacen(" } } }", &format!(" }} }}{tls} }}"), 1);
        parse(&(text + identity))
    };
    let listener = |tls: &str| parsed(tls, "").expect(tls).listeners.remove(0).tls.unwrap().client_auth;
    assert!(listener("").is_none() && listener(", client_auth = \"none\"").is_none());
    let found =
        listener(", client_auth = \"request\", client_trust = \"ca.pem\", client_revocation = [\"a\", \"b\"]").unwrap();
    assert_eq!((found.mode, found.revocation.len(), found.revocation_expiry), (ClientMode::Request, 2, false));
    assert_eq!(listener(", client_auth = \"passthrough\"").unwrap().trust, None);
    for (tls, title) in [
        (", client_auth = \"required\"", "`client_auth` cannot be `required`"),
        (", client_auth = \"require\"", "lacks `client_trust`"),
        (", client_trust = \"ca.pem\"", "no client is asked for a certificate here"),
        (", client_auth = \"passthrough\", client_trust = \"ca.pem\"", "is not judged"),
        (", client_auth = \"require\", client_trust = \"ca.pem\", ticket_secret = \"t\"", "would outlive a revocation"),
    ] {
        let faults = parsed(tls, "").expect_err(tls).render(false);
        assert!(faults.contains(title), "{tls}: {faults}");
    }
    let entry = |keys: &str| format!("\n[[identity.mtls]]\nname = \"x\"\n{keys}\n");
    for (keys, title) in [
        ("", "which certificates are theirs?"),
        ("san = \"a\"\nany = true", "which certificates are theirs?"),
        ("san = \"*.example\"", "is none"),
        ("subject = \"imaging\"", "is none"),
        ("fingerprint = \"00:11\"", "is none"),
        ("any = false", "`any` is true or not there"),
        ("san = \"a\"\nclasses = [\"recrds\"]", "did you mean `records`?"),
        ("san = \"a\"\nactions = [\"wipe\"]", "`actions` cannot have `wipe`"),
        ("san = \"a\"\nactions = []", "this caller may nothing"),
        ("san = \"a\"\nsans = \"b\"", "unknown key `sans`"),
    ] {
        let faults = parsed("", &entry(keys)).expect_err(keys).render(false);
        assert!(faults.contains(title), "{keys}: {faults}");
    }
    let two = GOOD.replacen(" } } }", " } }, client_auth = \"require\", client_trust = \"a\" }", 1)
        + &entry("san = \"a\"")
        + "[[listener]]\nbind = \"127.0.0.1:9443\"\ntls = { source = { files = { cert = \"c\", key = \"k\" } }, \
           client_auth = \"require\", client_trust = \"b\" }\n";
    assert!(broken(&two).render(false).contains("listeners judge certificates differently"));
    // The same authority, and a list on one of them alone, is no less another judgement.
    let lists = two.replace("client_trust = \"b\"", "client_trust = \"a\", client_revocation = \"l\"");
    assert!(broken(&lists).render(false).contains("listeners judge certificates differently"));
    let with = |entries: &str| {
        let text = GOOD.replacen(" } } }", " } }, client_auth = \"require\", client_trust = \"a\" }", 1) + entries;
        parse(&text).map(drop).map_err(|faults| faults.render(false))
    };
    for (entries, title) in [
        (entry("san = \"a\"\nlistener = \"0.0.0.0:8443\""), "which judges no certificates"),
        (entry("san = \"a\"") + &entry("san = \"b\""), "two callers are called `x`"),
        (entry("any = true") + &entry("san = \"b\"").replace("\"x\"", "\"y\""), "is anybody"),
        (entry("san = \"b\"").replace("\"x\"", "\"anonymous\""), "`name` is no caller's"),
        (entry("subject = \"cn=imaging\""), "is no attribute of a subject"),
        (entry("subject = \"CN=a, CN=b\""), "is none"),
    ] {
        let faults = with(&entries).expect_err(&entries);
        assert!(faults.contains(title), "{entries}: {faults}");
    }
    with(&entry("subject = \"emailAddress=a@b.example, 2.5.4.97=x\"")).unwrap();
    assert!(
        broken(&(GOOD.to_owned() + &entry("san = \"a\""))).render(false).contains("no listener judges certificates")
    );
    let enforced = GOOD.replacen(
        " } } }",
        " } }, client_auth = \"require\", client_trust = \"a\", client_revocation_expiry = \"enforce\" }",
        1,
    );
    assert!(broken(&enforced).render(false).contains("and has none"));
    parse(&two.replace("san = \"a\"", "san = \"a\"\nlistener = \"127.0.0.1:9443\"")).unwrap();
}

#[test]
fn an_authority_is_named_with_what_it_can_look_at() {
    let parsed = |acme: &str, more: &str| {
        let old = "files = { cert = \"cert.pem\", key = \"key.pem\" }";
        parse(&(GOOD.replacen(old, &format!("acme = {{ {acme} }}"), 1) + more))
    };
    let good = "directory = \"https://ca.example/dir\", domains = [\"a.example\"]";
    let config = parsed(&format!("{good}, contact = [\"a@b.example\"]"), "").unwrap();
    let CertificateSource::Acme(acme) = &tls_of(&config).certificates[0].source else { panic!("not ACME") };
    assert_eq!((acme.challenge, acme.contact[0].as_str()), (AcmeChallenge::TlsAlpn01, "mailto:a@b.example"));
    assert_eq!(acme.state, Path::new("/etc/sealward/acme"));
    let plain = "[[listener]]\nbind = \"127.0.0.1:80\"\n";
    parsed(&format!("{good}, challenge = \"http-01\""), plain).unwrap();
    for (acme, title) in [
        ("domains = [\"a.example\"]".to_owned(), "lacks `directory`"),
        ("directory = \"https://ca.example/dir\"".to_owned(), "lacks `domains`"),
        (good.replace("https", "http"), "is no https address"),
        (good.replace("a.example", "*.a.example"), "can't be ordered"),
        (good.replace("a.example", "localhost"), "can't be ordered"),
        (good.replace("\"a.example\"", ""), "`domains` has 0 names"),
        (format!("{good}, challenge = \"dns-01\""), "`challenge` cannot be `dns-01`"),
        (format!("{good}, challenge = \"http-01\""), "needs a listener without `tls`"),
    ] {
        let faults = parsed(&acme, "").expect_err(&acme).render(false);
        assert!(faults.contains(title), "{acme}: {faults}");
    }
    let clients = GOOD.replacen(
        "files = { cert = \"cert.pem\", key = \"key.pem\" } }",
        &format!("acme = {{ {good} }} }}, client_auth = \"require\", client_trust = \"c\""),
        1,
    );
    assert!(broken(&clients).render(false).contains("can't be answered where clients need certificates"));
}
