//! What is swapped under a running server, as its clients see it.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use sealward::tls;

use super::{Sealward, Site, eventually};

/// The leaf that openssl is shown.
pub fn leaf(server: &Sealward) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &server.https.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("openssl is there");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = words.find("-----BEGIN CERTIFICATE").expect("a certificate");
    let end = words.find("-----END CERTIFICATE-----").expect("its end");
    words[begin..end].to_owned()
}

/// A fresh certificate of the site's own CA, for `name` besides the usual ones, and its key.
pub fn made(site: &Site, name: &str) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["ca.pem", "ca-key.pem"] {
        fs::copy(site.path("tls").join(file), folder.path().join(file)).expect("copies");
    }
    tls::dev::ensure(folder.path(), &[name.to_owned()]).expect("a certificate");
    let read = |file: &str| fs::read_to_string(folder.path().join(file)).expect("reads");
    (read("cert.pem"), read("key.pem"))
}

/// Eight clients ask without a pause, each time over a new connection, while `change`
/// changes the certificate of `server`: another leaf is shown, and not one request fails.
pub fn under_load(site: &Site, server: &Sealward, change: impl FnOnce()) {
    under_load_of(site, server, &[&server.url("nothing")], change);
}

/// As [`under_load`], with clients that do `args`, for nothing that is there.
pub fn under_load_of(site: &Site, server: &Sealward, args: &[&str], change: impl FnOnce()) {
    let before = leaf(server);
    let (over, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let _ending = Ending(&over);
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let answer = site.curl(args);
                    if (answer.status, answer.exit) != (404, 0) {
                        failed.lock().expect("not poisoned").push(answer);
                    }
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        eventually("requests go on", || asked.load(Relaxed) > 20);
        change();
        eventually("the new one is served", || leaf(server) != before);
        let then = asked.load(Relaxed);
        eventually("requests go on", || asked.load(Relaxed) > then + 20);
    });
    let failed = failed.into_inner().expect("not poisoned");
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), asked.load(Relaxed), failed.first());
}

/// Ends the clients, also where a check failed: the scope waits for them.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Whether openssl's session in `file` is resumed by `server`; with none there, one is begun and kept.
pub fn resumed(server: &Sealward, file: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.https.to_string(), "-ign_eof"]);
    // Tickets come with the first answer.
    let begun = !file.exists();
    command.arg(if begun { "-sess_out" } else { "-sess_in" }).arg(file);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl is there");
    let request = b"GET /files/none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    child.stdin.take().expect("is piped").write_all(request).expect("is sent");
    let output = child.wait_with_output().expect("ends");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(words.contains("401"), "{words}");
    assert!(!begun || file.exists(), "a session is kept: {words}");
    words.lines().any(|line| line.starts_with("Reused, "))
}
