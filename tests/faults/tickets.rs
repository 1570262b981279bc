//! Sessions that one replica began and another resumes.

use std::fs;

use crate::support::{Sealward, Site, swapped::resumed};

fn serve(site: &Site, secret: Option<&str>) -> Sealward {
    let more = secret.map(|file| format!(", ticket_secret = \"{file}\"")).unwrap_or_default();
    let text = Site::config("", "").replacen(" } } }", &format!(" }} }}{more} }}"), 1);
    site.serve_text(&text)
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
