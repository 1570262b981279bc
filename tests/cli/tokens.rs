//! `token`: made and printed once, listed without secrets, ended.

use std::fs;

use crate::{
    run,
    support::{Site, secret_half},
};

/// `sealward token --config … ARGS`.
fn token(site: &Site, args: &[&str]) -> crate::Ran {
    let config = site.path("sealward.toml");
    let mut all = vec!["token", "--config", config.to_str().expect("is text")];
    all.extend(args);
    run(all, b"")
}

#[test]
fn a_token_is_printed_once_and_never_kept() {
    let site = Site::new();
    fs::write(site.path("sealward.toml"), Site::config("", "")).expect("writes");
    let made =
        token(&site, &["new", "backup", "--class", "records", "--allow", "read,list", "--expires", "30d"]).text();
    let made = made.trim();
    assert!(made.starts_with("swd_") && made.lines().count() == 1, "{made}");
    let secret = secret_half(made);
    let list = token(&site, &["list"]).text();
    let line = list.lines().find(|line| line.starts_with("backup ")).expect("is listed");
    assert!(line.contains("records") && line.contains("read") && line.contains("list"), "{line}");
    assert!(line.contains("GMT") && !line.contains("write"), "{line}");
    let kept = fs::read_to_string(site.path("tokens.json")).expect("reads");
    assert!(!list.contains(secret) && !kept.contains(secret), "the secret is nowhere");
    assert!(list.lines().any(|line| line.starts_with("tester ") && line.contains("never")), "{list}");
}

#[test]
fn a_token_does_what_it_may_and_ends_when_revoked() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "k", b"readable");
    let made = token(&site, &["new", "reader", "--allow", "read"]).text();
    let header = format!("Authorization: Bearer {}", made.trim());
    let status = |more: &[&str]| {
        let url = server.url("k");
        let mut args = vec!["-H", &header, &url];
        args.extend(more);
        site.curl_bare(&args).status
    };
    // Running servers look at the list again within seconds.
    crate::support::eventually("the token is known", || status(&[]) == 200);
    assert_eq!(status(&["-X", "DELETE"]), 403);
    assert_eq!(status(&["-X", "PUT", "-d", "x"]), 403);
    assert!(token(&site, &["revoke", "reader"]).ok().is_empty());
    crate::support::eventually("the token has ended", || status(&[]) == 401);
    assert!(!token(&site, &["list"]).text().contains("reader"));
}

#[test]
fn what_cannot_be_is_said() {
    let site = Site::new();
    fs::write(site.path("sealward.toml"), Site::config("", "")).expect("writes");
    assert!(token(&site, &["new", "tester"]).failed(1).contains("tester"), "the name is taken");
    assert!(token(&site, &["revoke", "nobody"]).failed(1).contains("nobody"));
    token(&site, &["new", "x", "--allow", "everything"]).failed(2);
    token(&site, &["new", "x", "--expires", "soon"]).failed(2);
    assert!(run(["token", "list"], b"").failed(2).contains("--config"));
    let words = run(["token", "list", "--tokens", "nowhere.json"], b"").failed(1);
    assert!(words.contains("nowhere.json"), "{words}");
}

#[test]
fn the_first_token_makes_its_file() {
    let site = Site::new();
    let path = site.path("fresh.json");
    let made = run(["token", "new", "first", "--tokens", path.to_str().expect("is text")], b"").text();
    assert!(made.starts_with("swd_"));
    for name in ["fresh.json", "fresh.json.key"] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(site.path(name).metadata().expect("is there").permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_class_that_is_not_there_is_pointed_out() {
    let site = Site::new();
    fs::write(site.path("sealward.toml"), Site::config("", "")).expect("writes");
    let words = token(&site, &["new", "x", "--class", "record"]).failed(2);
    assert!(words.contains("`record`") && words.contains("records"), "{words}");
}
