//! Behind a balancer that passes connections on: haproxy, by the PROXY protocol.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::support::{Sealward, Site, eventually, free_address, pattern};

/// A running haproxy, which says whose connection it passes on.
struct Haproxy {
    child: Child,
    address: SocketAddr,
}

impl Haproxy {
    fn before(site: &Site, server: &Sealward) -> Self {
        let address = free_address();
        let config = format!(
            "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server \
             30s\nlisten front\n  bind {address}\n  server sealward {} check inter 200ms check-send-proxy \
             send-proxy-v2\n",
            server.https
        );
        let path = site.path("haproxy.cfg");
        fs::write(&path, config).expect("writes");
        let program = if Path::new("/usr/sbin/haproxy").exists() { "/usr/sbin/haproxy" } else { "haproxy" };
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy is there: `make test` sees to it");
        eventually("haproxy listens", || TcpStream::connect(address).is_ok());
        Self { child, address }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(site: &Site, from: &str, limits: &str) -> Sealward {
    let text = Site::config("", limits);
    site.serve_text(&text.replacen("tls = ", &format!("proxy_protocol = {{ from = {from} }}\ntls = "), 1))
}

#[test]
fn a_balancers_client_is_who_it_says() {
    let site = Site::new();
    let server = serve(&site, "[\"127.0.0.1\"]", "");
    let haproxy = Haproxy::before(&site, &server);
    let bytes = pattern(3 << 20);
    let file = site.path("upload.tmp");
    fs::write(&file, &bytes).expect("writes");
    let url = format!("https://{}/files/k", haproxy.address);
    for (version, from) in [("--http1.1", "127.0.0.2"), ("--http2", "127.0.0.3")] {
        let arguments = [version, "--interface", from, "-T", file.to_str().expect("is text"), &url];
        let answer = site.curl(arguments);
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        let line = server.wait_for_line(|line| line.contains(&format!("\"peer\":\"{from}:")));
        assert!(line.contains("\"method\":\"PUT\""), "{line}");
        assert!(site.curl([version, "--interface", from, &url]).body == bytes);
    }

    // Not by a balancer: from its network nobody is heard without the header...
    let refused = site.curl([server.url("k")]);
    assert!(refused.status == 0 && refused.exit != 0, "{refused:?}");
    // ... and from elsewhere everybody is, for what they are.
    let direct = site.curl(["--interface", "127.0.0.9", &server.url("k")]);
    assert!(direct.status == 200 && direct.body == bytes, "{direct:?}");
    server.wait_for_line(|line| line.contains("\"peer\":\"127.0.0.9:"));
}

/// Who isn't listed can't say whose connection it is.
#[test]
fn a_strangers_word_is_not_taken() {
    let site = Site::new();
    let server = serve(&site, "[\"10.0.0.0/8\", \"fd00::/8\"]", "");
    let haproxy = Haproxy::before(&site, &server);
    let url = format!("https://{}/files/k", haproxy.address);
    let answer = site.curl(["--interface", "127.0.0.2", &url]);
    assert!(answer.status == 0 && answer.exit != 0, "{answer:?}");
    assert!(!server.log().contains("127.0.0.2"));
    assert_eq!(site.get(&server, "k").status, 404, "others are served as ever");
}

/// A balancer that says nothing is cut like any slow handshake.
#[test]
fn a_silent_balancer_is_cut() {
    use std::io::{Read as _, Write as _};
    let site = Site::new();
    let server = serve(&site, "[\"127.0.0.0/8\"]", "[limits]\nhandshake_timeout = \"500ms\"\n");
    for said in [&b""[..], b"\r\n\r\n\0\r\nQUIT\n\x21\x11"] {
        let mut socket = TcpStream::connect(server.https).expect("connects");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("is set");
        socket.write_all(said).expect("is sent");
        let mut byte = [0];
        assert!(matches!(socket.read(&mut byte), Ok(0)) || said.is_empty(), "cut without a word");
    }
    let timeouts = "sealward_tls_handshakes_total{group=\"none\",outcome=\"timeout\",version=\"none\"}";
    eventually("they are counted", || server.metric(timeouts) >= 2.0);
}
