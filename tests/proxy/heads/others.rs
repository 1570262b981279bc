//! The two servers whose ways the rows note, as Debian has them.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::lab::App;
use crate::{
    nginx::Nginx,
    support::{eventually, free_address},
};

/// A running haproxy with what it can't do without.
pub(super) struct Haproxy {
    child: Child,
    _folder: tempfile::TempDir,
    pub(super) address: SocketAddr,
}

impl Haproxy {
    pub(super) fn before(app: &App) -> Self {
        let address = free_address();
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "defaults\n  mode http\n  timeout client 2s\n  timeout http-request 2s\n  timeout http-keep-alive 2s\n  \
             timeout connect 5s\n  timeout server 5s\n\
             frontend clients\n  bind {address}\n  default_backend app\n\
             backend app\n  server app 127.0.0.1:{}\n",
            app.port
        );
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, text).expect("writes");
        let child = Command::new(program("haproxy"))
            .arg("-db")
            .arg("-f")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy is there: `make test` sees to it");
        let haproxy = Self { child, _folder: folder, address };
        eventually("haproxy listens", || TcpStream::connect(address).is_ok());
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An nginx that passes everything on, with what it does where nothing is said.
pub(super) fn nginx(app: &App) -> Nginx {
    let more = format!(
        "underscores_in_headers off; client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 2s;\n\
         location ~ ^ {{ proxy_pass {}; proxy_set_header Host $http_host; }}",
        app.url()
    );
    Nginx::start("before", &more)
}

/// Whether `name` says that its version begins so. The rows note what that one does.
pub(super) fn is(name: &str, version: &str) -> bool {
    let output = Command::new(program(name)).arg("-v").output().expect("it is there: `make test` sees to it");
    let words = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&words).contains(version)
}

/// Debian keeps them off the PATH of all but root.
fn program(name: &str) -> String {
    let place = format!("/usr/sbin/{name}");
    if Path::new(&place).exists() { place } else { name.to_owned() }
}
