//! Nothing is open unless its route says so.

use std::time::Duration;

use sealward::identity::{Action, Grant, TokenFile};

use crate::{
    client::{BOTH, bearer, file, nothing_stored, refused, token},
    support::{Answer, Sealward, Site, eventually, sealward},
};

const SECOND: &str = "
[[class]]
name = \"other\"
directory = \"other\"
[[route]]
path = \"/other/\"
seal = { class = \"other\" }
[[route]]
path = \"/open/\"
public = true
seal = { class = \"records\" }
";

/// Everything that can be asked of an object and of its collection, in an order
/// in which a stranger's first step would have to work.
fn everything(site: &Site, server: &Sealward, version: &str, header: &str) -> Vec<Answer> {
    let bytes = file(site, b"mine");
    let bytes = bytes.to_str().expect("is text");
    let form = format!("f=@{bytes}");
    let (object, collection) = (server.url("a"), server.url(""));
    [
        &["-T", bytes, &object][..],
        &[&object],
        &["-r", "0-0", &object],
        &["-X", "DELETE", &object],
        &["-X", "POST", &server.url("a?share")],
        &["--data-binary", "x", &collection],
        &["-F", &form, &collection],
        &[&server.url("?list")],
        &["-X", "PATCH", &object],
        &[&server.url("none")],
    ]
    .into_iter()
    .map(|args| site.curl_bare([version, "-H", header].iter().chain(args).copied()))
    .collect()
}

#[test]
fn strangers_learn_nothing() {
    let site = Site::new();
    let tokens = TokenFile::open(&site.path("tokens.json"), false).expect("a token file");
    let expired = tokens.issue("expired", Grant::default(), Some(Duration::ZERO)).expect("a token");
    let foreign = Site::new().token;
    let mut wrong = site.token.clone();
    wrong.pop();
    wrong.push(if site.token.ends_with('A') { 'B' } else { 'A' });
    let server = site.serve("", "");
    let mut details = std::collections::BTreeSet::new();
    for header in [
        "X-None: 1".to_owned(),
        "Authorization: Bearer".into(),
        "Authorization: Bearer nonsense".into(),
        format!("Authorization: Basic {}", site.token),
        bearer(&wrong),
        bearer(&foreign),
        bearer(&site.token[..site.token.len() - 1]),
        bearer(&format!("{}A", site.token)),
        bearer(expired.expose()),
    ] {
        for version in BOTH {
            for answer in everything(&site, &server, version, &header) {
                details.insert(refused(&site, &answer, 401));
                assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
            }
            assert_eq!(site.curl_bare([version, "-I", "-H", &header, &server.url("a")]).status, 401);
        }
    }
    // The same words for every reason.
    assert_eq!(details.len(), 1, "{details:?}");
    nothing_stored(&site);
    assert_eq!(site.curl_bare(["-H", &bearer(&site.token).replace("Bearer", "bEARER"), &server.url("a")]).status, 404);
}

#[test]
fn a_revoked_token_is_dead_within_seconds() {
    let site = Site::new();
    let late = bearer(&token(&site, "late", &[], &[]));
    let server = site.serve("", "");
    site.put(&server, "a", b"x");
    assert_eq!(site.curl_bare(["-H", &late, &server.url("a")]).status, 200);
    let revoked =
        sealward().arg("token").arg("--tokens").arg(site.path("tokens.json")).args(["revoke", "late"]).status();
    assert!(revoked.expect("runs").success());
    let since = std::time::Instant::now();
    eventually("the token dies", || site.curl_bare(["-H", &late, &server.url("a")]).status == 401);
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    // And one that is made while it serves is known as soon.
    let fresh = bearer(&token(&site, "fresh", &[], &[]));
    eventually("the token lives", || site.curl_bare(["-H", &fresh, &server.url("a")]).status == 200);
    assert_eq!(site.get(&server, "a").status, 200);
}

#[test]
fn a_public_route_is_open_and_no_other() {
    let site = Site::new();
    let server = site.serve("", SECOND);
    let open = format!("https://{}/open/", server.https);
    for version in BOTH {
        let key = format!("{open}a{version}");
        let bytes = file(&site, b"public");
        let put = site.curl_bare([version, "-T", bytes.to_str().expect("is text"), &key]);
        assert_eq!(put.status, 201, "{put:?}");
        // A bad token is no worse than none.
        let read = site.curl_bare([version, "-H", "Authorization: Bearer nonsense", &key]);
        assert_eq!(read.text(), "public");
        assert_eq!(site.curl_bare([version, &format!("{open}?list")]).status, 200);
        // Nobody to sign on behalf of.
        refused(&site, &site.curl_bare([version, "-X", "POST", &format!("{key}?share")]), 403);
        refused(&site, &site.curl_bare([version, &server.url(&format!("a{version}"))]), 401);
        assert_eq!(site.curl_bare([version, "-X", "DELETE", &key]).status, 204);
    }
}

#[test]
fn a_token_may_what_it_was_granted() {
    let site = Site::new();
    let actions = [Action::Write, Action::Read, Action::Share, Action::List, Action::Delete];
    let tokens: Vec<(Action, String)> =
        actions.iter().map(|action| (*action, bearer(&token(&site, &action.to_string(), &[], &[*action])))).collect();
    let server = site.serve("", SECOND);
    let bytes = file(&site, b"mine");
    let bytes = bytes.to_str().expect("is text");
    for version in BOTH {
        site.put(&server, "a", b"x");
        for (granted, header) in &tokens {
            let (object, list, share) = (server.url("a"), server.url("?list"), server.url("a?share"));
            for (needed, args) in [
                (Action::Write, &["-T", bytes, &object][..]),
                (Action::Write, &["--data-binary", "x", &server.url("")]),
                (Action::Read, &[&object]),
                (Action::Read, &["-r", "0-0", &object]),
                (Action::List, &[&list]),
                (Action::Delete, &["-X", "DELETE", &object]),
                // A link reads on its signer's behalf: one action alone never does.
                (Action::Share, &["-X", "POST", &share]),
            ] {
                let answer = site.curl_bare([version, "-H", header].iter().chain(args).copied());
                if needed == *granted && needed != Action::Share {
                    assert!(answer.status < 300, "{granted} {args:?}: {answer:?}");
                } else {
                    refused(&site, &answer, 403);
                }
            }
        }
    }
}

#[test]
fn a_token_of_one_class_is_for_that_class() {
    let site = Site::new();
    let header = bearer(&token(&site, "one", &["other"], &[]));
    let server = site.serve("", SECOND);
    let bytes = file(&site, b"mine");
    let other = format!("https://{}/other/a", server.https);
    let put = site.curl_bare(["-H", &header, "-T", bytes.to_str().expect("is text"), &other]);
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(site.curl_bare(["-H", &header, &other]).text(), "mine");
    let answers = everything(&site, &server, "--http1.1", &header);
    for (at, answer) in answers.iter().enumerate() {
        // The one method that nobody may.
        refused(&site, answer, if at == 8 { 405 } else { 403 });
    }
    nothing_stored(&site);
    // Classes don't see each other's objects.
    assert_eq!(site.curl([server.url("?list")]).json()["objects"].as_array().map(Vec::len), Some(0));
}

/// A condition that is judged tells what stands there, and so does a method that
/// is answered before anybody asks who calls.
#[test]
fn nothing_is_learnt_past_a_grant() {
    let site = Site::new();
    let server = site.serve("", "");
    let etag = site.put(&server, "kept", b"kept").header("etag").to_owned();
    let remover = bearer(&token(&site, "remover", &[], &[Action::Delete]));
    let server = {
        assert_eq!(server.stop().code(), Some(0));
        site.serve("", "")
    };
    for condition in [format!("If-Match: {etag}"), "If-Match: \"other\"".into(), "If-Match: *".into()] {
        let args = ["-X", "DELETE", "-H", &remover, "-H", &condition, &server.url("kept")];
        assert_eq!(site.curl_bare(args).status, 403, "{condition}");
    }
    let absent = ["-X", "DELETE", "-H", &remover, "-H", "If-None-Match: *", &server.url("kept")];
    assert_eq!(site.curl_bare(absent).status, 400);
    assert_eq!(site.get(&server, "kept").body, b"kept");
    assert_eq!(site.curl_bare(["-X", "OPTIONS", &server.url("kept")]).status, 401);
    assert_eq!(site.curl(["-X", "OPTIONS", &server.url("kept")]).status, 204);
    assert_eq!(site.curl_bare(["-X", "DELETE", "-H", &remover, &server.url("kept")]).status, 204);
}
