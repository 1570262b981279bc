//! Clients' certificates: who comes in, who doesn't, and who no longer does.

use std::{fs, io, path::PathBuf, process::Command, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use time::{Duration, OffsetDateTime};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::support::{Answer, SOON, Sealward, Site, eventually};

/// Somebody who issues certificates to clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

impl Authority {
    fn new(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(Self::params(name), KeyPair::generate().expect("a key")).expect("signs"))
    }

    /// One that `self` vouches for.
    fn below(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::signed_by(Self::params(name), key, &self.0).expect("signs"))
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// A client's certificate and key below `site`, as curl takes them.
    fn client(&self, site: &Site, name: &str, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> Client {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Clinic");
        params.subject_alt_names =
            vec![SanType::DnsName(format!("{name}.clients.example").try_into().expect("a name"))];
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = now() - Duration::days(1);
        params.not_after = now() + Duration::days(1);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("signs");
        let client = Client {
            cert: site.path(&format!("{name}-{serial}.pem")),
            key: site.path(&format!("{name}-{serial}.key")),
        };
        fs::write(&client.cert, cert.pem()).expect("writes");
        fs::write(&client.key, key.serialize_pem()).expect("writes");
        client
    }

    /// A list of the serial numbers that are no longer good, due to be replaced at `next`.
    fn list(&self, revoked: &[u64], next: OffsetDateTime) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now() - Duration::days(1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now() - Duration::days(2),
            next_update: next,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).expect("signs").pem().expect("is PEM")
    }
}

struct Client {
    cert: PathBuf,
    key: PathBuf,
}

impl Client {
    /// What this client is told when it does `args`.
    fn curl(&self, site: &Site, args: &[&str]) -> Answer {
        let (cert, key) = (self.cert.to_string_lossy(), self.key.to_string_lossy());
        let ca = site.path("tls/ca.pem");
        let mut all = vec!["--cacert", ca.to_str().expect("a path"), "--cert", &cert, "--key", &key];
        all.extend(args);
        site.curl_bare(all)
    }
}

/// Serves with the authority's trust in `clients.pem`, no list in `revoked.pem`, and `tls` added.
fn serve(site: &Site, authority: &Authority, tls: &str, identity: &str) -> Sealward {
    fs::write(site.path("clients.pem"), authority.0.pem()).expect("writes");
    fs::write(site.path("revoked.pem"), authority.list(&[], now() + Duration::days(1))).expect("writes");
    site.serve_text(&text(tls, identity))
}

fn text(tls: &str, identity: &str) -> String {
    let text = Site::config("", identity);
    text.replacen(" } } }", &format!(" }} }}, {tls} }}"), 1)
}

const REQUIRE: &str = "client_auth = \"require\", client_trust = \"clients.pem\", client_revocation = \"revoked.pem\", client_refresh = \"1s\"";

/// Everything to `imaging`, and reading alone to whoever else is of the clinic.
const KNOWN: &str = r#"
[[identity.mtls]]
name = "imaging"
san = "IMAGING.clients.example"
[[identity.mtls]]
name = "clinic"
subject = "O=Clinic"
classes = ["records"]
actions = ["read"]
"#;

#[test]
fn a_certificate_is_a_caller_and_may_what_its_entry_says() {
    let site = Site::new();
    let authority = Authority::new("clients");
    let server = serve(&site, &authority, REQUIRE, KNOWN);
    let imaging = authority.client(&site, "imaging", 1, |_| {});
    let other = authority.client(&site, "other", 2, |_| {});
    let foreign = authority
        .client(&site, "foreign", 3, |params| params.distinguished_name.push(DnType::OrganizationName, "Elsewhere"));
    let url = server.url("scan");
    let file = site.path("scan");
    fs::write(&file, "a scan").expect("writes");
    let up = ["-T", file.to_str().expect("a path"), &url];
    assert_eq!(imaging.curl(&site, &up).status, 201);
    let answer = other.curl(&site, &[&url]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "a scan"));
    let refused = other.curl(&site, &up);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.text().contains("you may not write here"), "{refused:?}");
    assert_eq!(foreign.curl(&site, &[&url]).status, 401, "trusted, and nobody we know");
    server.wait_for_line(|line| line.contains("\"caller\":\"imaging\""));
    // A token that is sent is what counts.
    let token = format!("authorization: Bearer {}", site.token);
    assert_eq!(other.curl(&site, &["-H", &token, up[0], up[1], up[2]]).status, 200);
    assert_eq!(imaging.curl(&site, &["-H", "authorization: Bearer nonsense", &url]).status, 401);
    // A link needs a token behind it.
    assert_eq!(imaging.curl(&site, &["-X", "POST", &format!("{url}?share")]).status, 403);
}

#[test]
fn hostile_certificates_end_at_the_handshake() {
    let site = Site::new();
    let (authority, stranger) = (Authority::new("clients"), Authority::new("clients"));
    let between = authority.below("between");
    let server = serve(&site, &authority, REQUIRE, KNOWN);
    fs::write(site.path("revoked.pem"), authority.list(&[66], now() + Duration::days(1))).expect("writes");
    let series = "sealward_tls_handshakes_total{group=\"none\",outcome=\"client_certificate\",version=\"none\"}";
    let good = authority.client(&site, "imaging", 1, |_| {});
    let loads = "sealward_client_trust_loads_total{listener=\"127.0.0.1:0\",outcome=\"published\"}";
    eventually("the list is read", || server.metric(loads) == 2.0);
    assert_eq!(good.curl(&site, &[&server.url("none")]).status, 404);
    let bad = [
        ("expired", authority.client(&site, "imaging", 10, |params| params.not_after = now() - Duration::hours(1))),
        (
            "not yet valid",
            authority.client(&site, "imaging", 11, |params| params.not_before = now() + Duration::hours(1)),
        ),
        (
            "for servers alone",
            authority.client(&site, "imaging", 12, |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        ("of an unknown authority of the same name", stranger.client(&site, "imaging", 13, |_| {})),
        ("of one whose issuer isn't sent", between.client(&site, "imaging", 14, |_| {})),
        ("revoked", authority.client(&site, "imaging", 66, |_| {})),
    ];
    for (what, client) in bad {
        let before = server.metric(series);
        let answer = client.curl(&site, &[&server.url("none")]);
        assert!(answer.status == 0 && answer.exit != 0, "{what}: {answer:?}");
        eventually(what, || server.metric(series) > before);
        assert_eq!(good.curl(&site, &[&server.url("none")]).status, 404, "others are served");
    }
    // None at all, and one that is no certificate's key.
    let before = server.metric(series);
    let ca = site.path("tls/ca.pem");
    let none = site.curl_bare(["--cacert", ca.to_str().expect("a path"), &server.url("none")]);
    assert!(none.status == 0 && none.exit != 0, "{none:?}");
    eventually("none where one is required", || server.metric(series) > before);
    // A chain that is far too long.
    let long = authority.client(&site, "imaging", 15, |_| {});
    let link = fs::read_to_string(&good.cert).expect("reads");
    fs::write(&long.cert, fs::read_to_string(&long.cert).expect("reads") + &link.repeat(200)).expect("writes");
    let answer = long.curl(&site, &[&server.url("none")]);
    assert!(answer.status == 0 && answer.exit != 0, "{answer:?}");
    assert_eq!(good.curl(&site, &[&server.url("none")]).status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_gets_an_alert_at_most() {
    let site = Site::new();
    let authority = Authority::new("clients");
    let server = serve(&site, &authority, REQUIRE, KNOWN);
    let good = authority.client(&site, "imaging", 1, |_| {});
    // A hello that says it is longer than a record may be, or than what follows.
    let hello = |length: u16, body: &[u8]| [&[0x16, 0x03, 0x01], &length.to_be_bytes()[..], body].concat();
    for (what, bytes) in [
        ("HTTP", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("zeroes", vec![0; 4096]),
        ("a record that is too long", hello(0xffff, &vec![1; 70_000])),
        ("a hello of another kind", hello(4, &[2, 0, 0, 0])),
        ("an alert", vec![0x15, 0x03, 0x01, 0, 2, 2, 40]),
        ("SSL 2.0", vec![0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15, 0x00, 0x00, 0x00, 0x10]),
        ("a part of a hello, and the end", hello(512, &[1, 0, 1, 252, 3, 3])),
    ] {
        let mut socket = TcpStream::connect(server.https).await.expect("connects");
        // Who is cut may not take all of it.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, socket.read_to_end(&mut answer)).await.expect("it ends");
        assert!(read.is_err() || answer.is_empty() || (answer[0] == 0x15 && answer.len() == 7), "{what}: {answer:?}");
        assert_eq!(good.curl(&site, &[&server.url("none")]).status, 404, "{what}: others are served");
    }
}

/// One connection with a certificate, by hand.
async fn connect(
    site: &Site,
    server: &Sealward,
    client: &Client,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(site.path("tls/ca.pem")).expect("a certificate")).expect("a root");
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&client.cert).expect("reads").map(|cert| cert.expect("PEM")).collect();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&client.key).expect("a key"))
        .expect("a pair");
    let socket = TcpStream::connect(server.https).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").expect("a name"), socket).await
}

/// The status that a request for the head of nothing gets.
async fn ask(stream: &mut tokio_rustls::client::TlsStream<TcpStream>) -> u16 {
    stream.write_all(b"HEAD /files/none HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("takes it");
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
    };
    tokio::time::timeout(SOON, read).await.expect("in time");
    String::from_utf8(head).expect("is text")[9..12].parse().expect("a status")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_holds_for_who_is_connected_and_for_sessions() {
    let site = Site::new();
    let authority = Authority::new("clients");
    let server = serve(&site, &authority, REQUIRE, KNOWN);
    let (imaging, other) = (authority.client(&site, "imaging", 1, |_| {}), authority.client(&site, "other", 2, |_| {}));
    let mut connected = connect(&site, &server, &imaging).await.expect("connects");
    let mut stays = connect(&site, &server, &other).await.expect("connects");
    assert_eq!(ask(&mut connected).await, 404);

    // No session is handed out that could be resumed later.
    let session = site.path("session");
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &server.https.to_string(), "-ign_eof", "-sess_out"])
        .arg(&session)
        .arg("-cert")
        .arg(&imaging.cert)
        .arg("-key")
        .arg(&imaging.key)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .and_then(|mut child| {
            let request = b"GET /files/none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            io::Write::write_all(&mut child.stdin.take().expect("is piped"), request)?;
            child.wait_with_output()
        })
        .expect("openssl is there");
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(words.contains("404") && !words.contains("New Session Ticket arrived"), "{words}");

    fs::write(site.path("revoked.pem"), authority.list(&[1], now() + Duration::days(1))).expect("writes");
    eventually("it is refused", || imaging.curl(&site, &[&server.url("none")]).status == 0);
    assert_eq!(ask(&mut connected).await, 401);
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, connected.read_to_end(&mut rest)).await.expect("it ends").expect("cleanly");
    assert!(rest.is_empty());
    assert_eq!(ask(&mut stays).await, 404, "another stays");
    assert!(connect(&site, &server, &other).await.is_ok());
    // Given back, it is good again.
    fs::write(site.path("revoked.pem"), authority.list(&[], now() + Duration::days(1))).expect("writes");
    eventually("it is taken", || imaging.curl(&site, &[&server.url("none")]).status == 404);
}

#[test]
fn nobody_is_another_by_a_name_of_another_kind() {
    let site = Site::new();
    let authority = Authority::new("clients");
    let known = "[[identity.mtls]]\nname = \"uri\"\nsan = \"spiffe://corp/Admin\"\n\
        [[identity.mtls]]\nname = \"mail\"\nsan = \"Boss@corp.example\"\n\
        [[identity.mtls]]\nname = \"subject\"\nsubject = \"CN=imaging\"\n";
    let server = serve(&site, &authority, REQUIRE, known);
    let text = |text: &str| text.try_into().expect("a name");
    let client = |serial, names: Vec<SanType>| {
        authority
            .client(&site, "client", serial, |params| params.subject_alt_names = names)
            .curl(&site, &[&server.url("none")])
    };
    for (serial, names, status) in [
        (1, vec![SanType::URI(text("spiffe://corp/Admin"))], 404),
        (2, vec![SanType::URI(text("spiffe://corp/admin"))], 401),
        (3, vec![SanType::DnsName(text("spiffe://corp/Admin"))], 401),
        (4, vec![SanType::Rfc822Name(text("Boss@CORP.example"))], 404),
        (5, vec![SanType::DnsName(text("Boss@corp.example"))], 401),
        (6, vec![SanType::Rfc822Name(text("boss@corp.example"))], 401),
    ] {
        assert_eq!(client(serial, names).status, status, "{serial}");
    }
    // Two common names are nobody's, in whatever they are written.
    let twice = authority.client(&site, "imaging", 7, |params| {
        params
            .distinguished_name
            .push(DnType::CustomDnType(vec![2, 5, 4, 3]), rcgen::DnValue::BmpString("evil".try_into().expect("text")));
    });
    assert_eq!(twice.curl(&site, &[&server.url("none")]).status, 401);
    let once = authority.client(&site, "imaging", 8, |_| {});
    assert_eq!(once.curl(&site, &[&server.url("none")]).status, 404);
    server.wait_for_line(|line| line.contains("\"caller\":\"subject\"") && line.contains("\"certificate\":\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_or_an_authority_that_runs_out_ends_who_is_connected() {
    let site = Site::new();
    let authority = Authority::new("clients");
    let enforced = format!("{REQUIRE}, client_revocation_expiry = \"enforce\"");
    let server = serve(&site, &authority, &enforced, KNOWN);
    let client = authority.client(&site, "imaging", 1, |_| {});
    // A list for a moment more, in which a client comes in also where the machine is busy.
    fs::write(site.path("revoked.pem"), authority.list(&[], now() + Duration::seconds(15))).expect("writes");
    let loads = "sealward_client_trust_loads_total{listener=\"127.0.0.1:0\",outcome=\"published\"}";
    eventually("the list is read", || server.metric(loads) == 2.0);
    let mut connected = connect(&site, &server, &client).await.expect("connects");
    assert_eq!(ask(&mut connected).await, 404);
    server.wait_for_line(|line| line.contains("past its next update, and nobody"));
    tokio::time::timeout(SOON, async { while ask(&mut connected).await != 401 {} }).await.expect("it ends");
}

#[test]
fn an_expired_list_admits_nobody_where_that_is_asked() {
    let site = Site::new();
    let authority = Authority::new("clients");
    let client = authority.client(&site, "imaging", 1, |_| {});
    let server = serve(&site, &authority, REQUIRE, KNOWN);
    let stale = authority.list(&[], now() - Duration::hours(1));
    fs::write(site.path("revoked.pem"), &stale).expect("writes");
    server.wait_for_line(|line| line.contains("past its next update"));
    assert_eq!(client.curl(&site, &[&server.url("none")]).status, 404);
    let ends = server.metric("sealward_client_revocation_expiry_timestamp_seconds{listener=\"127.0.0.1:0\"}");
    assert!(ends > 0.0, "{ends}");
    drop(server);

    let enforced = text(&format!("{REQUIRE}, client_revocation_expiry = \"enforce\""), KNOWN);
    let server = site.serve_text(&enforced);
    let answer = client.curl(&site, &[&server.url("none")]);
    assert_eq!(answer.status, 0, "{answer:?}");
    // With a list in DER that is fresh it goes on.
    let fresh = authority.list(&[], now() + Duration::days(1));
    let der = rustls_pki_types::CertificateRevocationListDer::from_pem_slice(fresh.as_bytes()).expect("PEM");
    fs::write(site.path("revoked.pem"), der).expect("writes");
    eventually("it is taken", || client.curl(&site, &[&server.url("none")]).status == 404);
}

#[test]
fn a_certificate_may_be_asked_for_or_handed_on() {
    let site = Site::new();
    let (authority, stranger) = (Authority::new("clients"), Authority::new("strangers"));
    let request = REQUIRE.replace("\"require\"", "\"request\"");
    let server = serve(&site, &authority, &request, KNOWN);
    let (good, bad) = (authority.client(&site, "imaging", 1, |_| {}), stranger.client(&site, "imaging", 2, |_| {}));
    let url = server.url("none");
    assert_eq!(good.curl(&site, &[&url]).status, 404);
    assert_eq!(site.curl([&url]).status, 404, "with a token, and none");
    let answer = bad.curl(&site, &[&url]);
    assert_eq!(answer.status, 0, "a bad one is refused: {answer:?}");
    drop(server);

    let server = site.serve_text(&text("client_auth = \"passthrough\"", ""));
    let url = server.url("none");
    // Whatever it says of itself, it is nobody here.
    assert_eq!((bad.curl(&site, &[&url]).status, good.curl(&site, &[&url]).status), (401, 401));
    assert_eq!(site.curl([&url]).status, 404);
}

#[test]
fn rubbish_in_place_of_trust_changes_nothing() {
    let site = Site::new();
    let authority = Authority::new("clients");
    let client = authority.client(&site, "imaging", 1, |_| {});
    let server = serve(&site, &authority, REQUIRE, KNOWN);
    let series = "sealward_client_trust_loads_total{listener=\"127.0.0.1:0\",outcome=\"refused\"}";
    for (file, rubbish) in [("clients.pem", "rubbish"), ("clients.pem", ""), ("revoked.pem", "rubbish")] {
        let good = fs::read(site.path(file)).expect("reads");
        let before = server.metric(series);
        fs::write(site.path(file), rubbish).expect("writes");
        eventually("it is refused", || server.metric(series) > before);
        assert_eq!(client.curl(&site, &[&server.url("none")]).status, 404);
        fs::write(site.path(file), good).expect("writes");
        server.signal("HUP");
    }
    assert!(server.wait_for_line(|line| line.contains("client trust refused")).contains("clients.pem"));
    drop(server);
    for (file, rubbish, words) in
        [("clients.pem", "rubbish", "holds no CERTIFICATE"), ("revoked.pem", "rubbish", "no revocation list")]
    {
        let good = fs::read(site.path(file)).expect("reads");
        fs::write(site.path(file), rubbish).expect("writes");
        let log = site.try_serve(&text(REQUIRE, KNOWN), &[]).err().expect("it must not serve");
        assert!(log.contains(words) && log.contains(file), "{log}");
        fs::write(site.path(file), good).expect("writes");
    }
}
