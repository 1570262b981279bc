//! haproxy as an app, with nginx behind it: a balancer of the inside.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::{
    apps::{ask, said, serve, to},
    failing::{VERSIONS, await_calm, file},
    nginx::Nginx,
    support::{Sealward, Site, eventually, free_address, pattern},
};

/// One haproxy, before one nginx; it ends with this.
struct Haproxy {
    child: Child,
    plain: SocketAddr,
    encrypted: SocketAddr,
}

impl Haproxy {
    fn before(site: &Site, app: &Nginx) -> Self {
        // It wants both in one file.
        let pair = ["tls/cert.pem", "tls/key.pem"].map(|name| fs::read_to_string(site.path(name)).expect("reads"));
        fs::write(site.path("haproxy.pem"), pair.concat()).expect("writes");
        let (plain, encrypted) = (free_address(), free_address());
        let text = format!(
            "global\n  maxconn 100\ndefaults\n  mode http\n  retries 0\n  timeout connect 5s\n  timeout client 30s\n  \
             timeout server 30s\nfrontend front\n  bind {plain}\n  bind {encrypted} ssl crt {} alpn h2,http/1.1\n  \
             http-request set-header x-keep haproxy-%[req.hdr(x-forwarded-proto)]\n  \
             http-after-response set-header x-haproxy here\n  default_backend nginx\nbackend nginx\n  \
             server nginx {}\n",
            site.path("haproxy.pem").display(),
            app.address
        );
        let path = site.path("haproxy.cfg");
        fs::write(&path, text).expect("writes");
        // Debian keeps it off the PATH of all but root.
        let program = if Path::new("/usr/sbin/haproxy").exists() { "/usr/sbin/haproxy" } else { "haproxy" };
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy is there: `make test` sees to it");
        let haproxy = Self { child, plain, encrypted };
        eventually("haproxy listens", || [plain, encrypted].iter().all(|at| TcpStream::connect(at).is_ok()));
        haproxy
    }

    fn plain(&self) -> String {
        format!("http://{}", self.plain)
    }

    fn encrypted(&self) -> String {
        format!("https://localhost:{}", self.encrypted.port())
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that ordinary requests are: heads as said, and bodies both ways.
fn works(site: &Site, server: &Sealward, app: &Nginx) {
    let bytes = pattern(5 << 20);
    app.keep("large", &bytes);
    let upload = file(site, &bytes);
    for version in VERSIONS {
        let answer = ask(site, server, "/a%20b?c=d", &[version, "-H", "X-Keep: ours", "-H", "Cookie: a=1"]);
        assert_eq!((answer.status, answer.header("x-haproxy")), (200, "here"), "{answer:?}");
        let host = format!("localhost:{}", server.https.port());
        for (name, expected) in [
            ("uri", "/a%20b?c=d"),
            ("host", &host),
            ("xhost", &host),
            ("forwarded_for", "127.0.0.1"),
            ("proto", "https"),
            ("keep", "haproxy-https"),
            ("cookie", "a=1"),
            ("id", answer.header("x-request-id")),
        ] {
            assert_eq!(said(&answer, name), expected, "{version}: {name}");
        }
        let answer = ask(site, server, "/data/large", &[version]);
        assert!((answer.status, answer.exit) == (200, 0) && answer.body == bytes, "{version}: {answer:?}");
        let path = format!("put/{version}");
        for more in [&[version][..], &[version, "-H", "Expect:"]] {
            let answer = ask(site, server, &format!("/{path}"), &[more, &["-T", &upload]].concat());
            assert!(matches!(answer.status, 201 | 204) && answer.exit == 0, "{version}: {answer:?}");
            assert!(fs::read(app.data(&path)).expect("reads") == bytes, "{version}: every byte");
        }
        assert_eq!(ask(site, server, "/status/404", &[version]).text(), "gone");
        assert_eq!(ask(site, server, "/", &[version, "-I"]).status, 200);
    }
    await_calm(server);
}

fn behind() -> (Site, Nginx) {
    (Site::new(), Nginx::start("one", "location /put/ { root data; dav_methods PUT; create_full_put_path on; }"))
}

#[test]
fn requests_pass_haproxy_plain_and_over_tls() {
    let (site, app) = behind();
    let haproxy = Haproxy::before(&site, &app);
    works(&site, &serve(&site, &to(&[haproxy.plain()], "")), &app);
    works(&site, &serve(&site, &to(&[haproxy.encrypted()], "tls = { roots = \"tls/ca.pem\" }")), &app);
}

#[test]
fn requests_pass_haproxy_over_http2() {
    let (site, app) = behind();
    let haproxy = Haproxy::before(&site, &app);
    let more = "protocol = \"http2\"\ntls = { roots = \"tls/ca.pem\" }";
    works(&site, &serve(&site, &to(&[haproxy.encrypted()], more)), &app);
}

#[test]
fn what_haproxy_answers_by_itself_comes_back_as_it_is() {
    let (site, mut app) = behind();
    let haproxy = Haproxy::before(&site, &app);
    let server = serve(&site, &to(&[haproxy.plain()], ""));
    app.kill();
    for version in VERSIONS.repeat(3) {
        let answer = ask(&site, &server, "/", &[version]);
        assert_eq!((answer.status, answer.exit), (503, 0), "{answer:?}");
        assert_eq!((answer.header("content-type"), answer.header("x-haproxy")), ("text/html", "here"));
        assert!(answer.text().contains("No server is available to handle this request."), "{answer:?}");
    }
    assert_eq!(server.metric("sealward_upstream_requests_total{status=\"503\",upstream=\"app\"}"), 6.0);
    assert!(!server.log().contains("a target is left out"), "it answered each time");
    app.go();
    assert_eq!(said(&ask(&site, &server, "/", &[]), "name"), "one");
    await_calm(&server);
}
