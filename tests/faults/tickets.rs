//! Sessions that one replica began and another resumes.

use std::{fs, path::Path, process::Command};

use crate::support::{Sealward, Site};

fn serve(site: &Site, secret: Option<&str>) -> Sealward {
    let more = secret.map(|file| format!(", ticket_secret = \"{file}\"")).unwrap_or_default();
    let text = Site::config("", "").replacen(" } } }", &format!(" }} }}{more} }}"), 1);
    site.serve_text(&text)
}

/// Whether openssl's session in `file` is resumed by `server`; with none there, one is begun and kept.
fn resumed(server: &Sealward, file: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.https.to_string(), "-ign_eof"]);
    // Tickets come with the first answer.
    let begun = !file.exists();
    command.arg(if begun { "-sess_out" } else { "-sess_in" }).arg(file);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl is there");
    let request = b"GET /files/none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    std::io::Write::write_all(&mut child.stdin.take().expect("is piped"), request).expect("is sent");
    let output = child.wait_with_output().expect("ends");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(words.contains("401"), "{words}");
    assert!(!begun || file.exists(), "a session is kept: {words}");
    words.lines().any(|line| line.starts_with("Reused, "))
}

#[test]
fn any_replica_resumes_what_another_began() {
    let (one, two) = (Site::new(), Site::new());
    for site in [&one, &two] {
        fs::write(site.path("tickets.key"), [42; 32]).expect("writes");
    }
    let sessions = tempfile::tempdir().expect("a folder");
    let session = |name: &str| sessions.path().join(name);
    let first = serve(&one, Some("tickets.key"));
    assert!(!resumed(&first, &session("shared")), "begun");
    assert!(resumed(&first, &session("shared")), "by itself");
    let second = serve(&two, Some("tickets.key"));
    assert!(resumed(&second, &session("shared")), "by another");
    drop(first);
    let again = serve(&one, Some("tickets.key"));
    assert!(resumed(&again, &session("shared")), "after a restart");

    // Another secret, or one of its own, resumes nothing of theirs.
    fs::write(two.path("tickets.key"), [43; 32]).expect("writes");
    drop(second);
    assert!(!resumed(&serve(&two, Some("tickets.key")), &session("shared")));
    assert!(!resumed(&serve(&two, None), &session("shared")));
    fs::write(two.path("tickets.key"), [43; 31]).expect("writes");
    let text = Site::config("", "").replacen(" } } }", " } }, ticket_secret = \"tickets.key\" }", 1);
    let log = two.try_serve(&text, &[]).err().expect("it must not serve");
    assert!(log.contains("tickets.key") && log.contains("openssl rand"), "{log}");
}
