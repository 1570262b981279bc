//! Signed links: one object, to be read, for a while.

use sealward::identity::Action;

use crate::{
    client::{BOTH, bearer, file, refused, token},
    support::{Sealward, Site, eventually, sealward},
};

fn share(site: &Site, server: &Sealward, key: &str, query: &str, header: &str) -> String {
    let url = server.url(&format!("{key}?share{query}"));
    let answer = site.curl_bare(["-X", "POST", "-H", header, &url]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let link = answer.json();
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(link["expires"].as_str().expect("a time"), format).expect("RFC 3339");
    link["url"].as_str().expect("a link").to_owned()
}

#[test]
fn a_link_reads_one_object_without_a_token() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "a%20b/%C3%A4", b"0123456789");
    site.put(&server, "other", b"no");
    let link = share(&site, &server, "a%20b/%C3%A4", "&expires=600", &bearer(&site.token));
    let bytes = file(&site, b"mine");
    for version in BOTH {
        assert_eq!(site.curl_bare([version, &link]).text(), "0123456789");
        assert_eq!(site.curl_bare([version, "-r", "2-3", &link]).text(), "23");
        let head = site.curl_bare([version, "-I", &link]);
        assert_eq!((head.status, head.header("content-length")), (200, "10"));
        assert_eq!(site.curl_bare([version, "-H", "If-None-Match: *", &link]).status, 304);

        let put = site.curl_bare([version, "-T", bytes.to_str().expect("is text"), &link]);
        refused(&site, &put, 403);
        refused(&site, &site.curl_bare([version, "-X", "DELETE", &link]), 403);
        refused(&site, &site.curl_bare([version, "-X", "POST", &link]), 403);
        refused(&site, &site.curl_bare([version, "-X", "POST", &format!("{link}&share")]), 403);
        let query = link.split_once('?').expect("a query").1;
        refused(&site, &site.curl_bare([version, &server.url(&format!("other?{query}"))]), 401);
        refused(&site, &site.curl_bare([version, &server.url(&format!("a%20b?{query}"))]), 401);
        refused(&site, &site.curl_bare([version, &server.url(&format!("?list&{query}"))]), 401);
    }
    assert_eq!(site.get(&server, "a%20b/%C3%A4").text(), "0123456789");
}

#[test]
fn a_link_that_was_touched_is_none() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "a", b"x");
    let link = share(&site, &server, "a", "&expires=600", &bearer(&site.token));
    let (path, query) = link.split_once('?').expect("a query");
    let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    assert_eq!(pairs.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["expires", "by", "signature"]);
    let (expires, by, signature) = (pairs[0].1, pairs[1].1, pairs[2].1);
    let later = expires.parse::<u64>().expect("a time") + 1;
    let foreign = token(&site, "foreign", &[], &[]);
    let other = foreign.split('_').nth(1).expect("an id");
    for query in [
        format!("expires={later}&by={by}&signature={signature}"),
        format!("expires={expires}&by={other}&signature={signature}"),
        format!("expires={expires}&by={by}&signature={}A", &signature[..signature.len() - 1]),
        format!("expires={expires}&by={by}&signature="),
    ] {
        if query == format!("expires={expires}&by={by}&signature={signature}") {
            continue;
        }
        refused(&site, &site.curl_bare([format!("{path}?{query}")]), 401);
    }
    for query in [
        format!("expires={expires}&signature={signature}"),
        format!("by={by}&signature={signature}"),
        format!("expires=x&by={by}&signature={signature}"),
        format!("expires={expires}&by={by}&signature={signature}&signature={signature}"),
    ] {
        refused(&site, &site.curl_bare([format!("{path}?{query}")]), 400);
    }
    refused(&site, &site.curl_bare([format!("{path}?{query}&more=1")]), 400);
    refused(&site, &site.curl_bare([format!("{path}?expires={expires}&by={by}")]), 401);
    // The same pairs in another order are the same link.
    let turned = format!("{path}?signature={signature}&by={by}&expires={expires}");
    assert_eq!(site.curl_bare([turned]).text(), "x");
}

#[test]
fn a_link_lasts_as_long_as_it_was_made_for() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "a", b"x");
    for expires in ["0", "604801", "x", "-1", "99999999999999999999"] {
        let url = server.url(&format!("a?share&expires={expires}"));
        refused(&site, &site.curl(["-X", "POST", &url]), 400);
    }
    share(&site, &server, "a", "&expires=604800", &bearer(&site.token));
    share(&site, &server, "a", "", &bearer(&site.token));
    let short = share(&site, &server, "a", "&expires=10", &bearer(&site.token));
    assert_eq!(site.curl_bare([&short]).text(), "x");
    eventually("the link expires", || site.curl_bare([&short]).status == 401);
    refused(&site, &site.curl_bare([&short]), 401);
}

#[test]
fn a_link_dies_with_its_signer() {
    let site = Site::new();
    let sharer = bearer(&token(&site, "sharer", &[], &[Action::Share, Action::Read]));
    let reader = bearer(&token(&site, "reader", &[], &[Action::Read, Action::List, Action::Write]));
    let blind = bearer(&token(&site, "blind", &[], &[Action::Share]));
    let server = site.serve("", "");
    site.put(&server, "a", b"x");
    let url = server.url("a?share");
    for header in [&reader, &blind] {
        refused(&site, &site.curl_bare(["-X", "POST", "-H", header, &url]), 403);
    }
    let link = share(&site, &server, "a", "", &sharer);
    let lasting = share(&site, &server, "a", "", &bearer(&site.token));
    assert_eq!(site.curl_bare([&link]).text(), "x");
    let tokens = site.path("tokens.json");
    let revoked = sealward().arg("token").arg("--tokens").arg(tokens).args(["revoke", "sharer"]).status();
    assert!(revoked.expect("runs").success());
    eventually("the link dies", || site.curl_bare([&link]).status == 401);
    assert_eq!(site.curl_bare([&lasting]).text(), "x");
}
