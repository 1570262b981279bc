//! A certificate runs out while it is served, and a new one is put in its place.

use std::{fs, time::SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use time::{Duration, OffsetDateTime};

use super::{Page, readiness};
use crate::{
    client::Raw,
    support::{Sealward, Site, eventually},
};

/// What curl ends with when it doesn't believe a certificate.
const UNBELIEVED: i32 = 60;

/// An authority that clients trust.
struct Authority(CertifiedIssuer<'static, KeyPair>);

#[test]
fn who_connects_is_turned_away_by_an_expired_certificate_until_a_new_one_is_there() {
    let page = Page::open("certificate-expired");
    let site = Site::new();
    let authority = Authority::trusted_at(&site);
    authority.issue(&site, Duration::days(1));
    // Nobody looks at the files unless told.
    let config = Site::config("", "").replace("refresh = \"1s\"", "refresh = \"1h\"");
    let server = site.serve_text(&config);
    site.put(&server, "report", b"before");
    let mut connected = Raw::new(&site, &server);
    assert_eq!(connected.ask("GET /files/report", "").body, b"before");

    authority.soon_expires(&site, &server);
    eventually("it is believed no more", || site.get(&server, "report").exit == UNBELIEVED);
    let words = site.get(&server, "report").words;
    assert!(words.contains(page.shows("certificate has expired")), "{words}");
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
    let expiry = server.metric("sealward_certificate_expiry_timestamp_seconds{name=\"127.0.0.1:0\"}");
    assert!(expiry > 0.0 && expiry <= now, "{expiry}");
    let failed = page.shows("outcome=\"failed\"");
    eventually("that is counted", || {
        let metrics = server.metrics();
        metrics.lines().any(|line| line.starts_with("sealward_tls_handshakes_total{") && line.contains(failed))
    });
    assert_eq!(readiness(&site, &server).status, 200, "nothing else says so");
    assert_eq!(connected.ask("GET /files/report", "").body, b"before");
    assert_eq!(connected.put("meanwhile", "", b"on a connection that was there").status, 201);
    let checked = page.run(&site, "sealward check --config sealward.toml --online");
    assert_eq!(checked.code, Some(2), "{}", checked.words);
    for words in ["expired at", "renew it"] {
        assert!(checked.words.contains(page.shows(words)), "{words}: {}", checked.words);
    }
    // With a folder of its own, and, as something is in its environment, a file: the certificate alone is in its way.
    let another = config.replace("directory = \"objects\"", "directory = \"another\"");
    let beside = [("TZ", "UTC".to_owned())];
    page.shows("no replica starts");
    let log = site.try_serve(&another, &beside).err().expect("it must not start");
    assert!(log.contains("expired at") && log.contains("renew it"), "{log}");

    let told = |log: &str| log.lines().filter(|line| line.contains(page.shows("certificate published"))).count();
    let (before, lines) = (loads(&server, "published"), told(&server.log()));
    authority.issue(&site, Duration::days(1));
    server.signal("HUP");
    eventually("it is believed again", || site.get(&server, "report").status == 200);
    // Who connects may be shown it before it is counted.
    eventually("that is counted", || loads(&server, "published") > before);
    eventually("that is said", || told(&server.log()) > lines);
    drop(site.serve_among(&another, &beside));
    assert_eq!(site.get(&server, "report").text(), "before");
    assert_eq!(site.get(&server, "meanwhile").text(), "on a connection that was there");
    assert_eq!(connected.ask("GET /files/report", "").body, b"before", "who was connected stays so");
    page.finished();
}

/// How often it has come to that with a certificate.
fn loads(server: &Sealward, outcome: &str) -> f64 {
    server.metric(&format!("sealward_certificate_loads_total{{name=\"127.0.0.1:0\",outcome=\"{outcome}\"}}"))
}

impl Authority {
    /// A new one, in place of the site's own.
    fn trusted_at(site: &Site) -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "a drill's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = Self(CertifiedIssuer::self_signed(params, key).expect("signs"));
        fs::write(site.path("tls/ca.pem"), authority.0.pem()).expect("writes");
        authority
    }

    /// Has `server` publish a certificate that is good for a few seconds more. One that runs out before it is looked
    /// at is refused, and the next is good for longer.
    fn soon_expires(&self, site: &Site, server: &Sealward) {
        for life in [2, 4, 8, 16] {
            let (published, refused) = (loads(server, "published"), loads(server, "refused"));
            self.issue(site, Duration::seconds(life));
            server.signal("HUP");
            eventually("it is looked at", || {
                loads(server, "published") + loads(server, "refused") > published + refused
            });
            if loads(server, "published") > published {
                return;
            }
        }
        panic!("it takes longer than the life of each to publish one:\n{}", server.log());
    }

    /// Puts a certificate and its key in place that are good for so long from now.
    fn issue(&self, site: &Site, life: Duration) {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + life;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signs");
        fs::write(site.path("tls/key.pem"), key.serialize_pem()).expect("writes");
        fs::write(site.path("tls/cert.pem"), certificate.pem()).expect("writes");
    }
}
