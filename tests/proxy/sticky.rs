//! Clients that are led back to where they were: to their target, or to their group.

use std::fs;

use regex::Regex;

use crate::{
    apps::{ask, said, serve, to},
    failing::VERSIONS,
    nginx::Nginx,
    support::{Answer, Sealward, Site},
    targets::{count, names, reload},
};

/// A signing key that several servers share.
const KEY: &str = "as long as it is and known to none but us";

fn two() -> (Nginx, Nginx) {
    (Nginx::start("one", ""), Nginx::start("two", ""))
}

fn both(one: &Nginx, two: &Nginx, more: &str) -> String {
    to(&[one.url(), two.url()], more)
}

/// A file where curl keeps its cookies.
fn jar(site: &Site, name: &str) -> String {
    site.path(name).to_str().expect("is text").to_owned()
}

/// The one cookie that is set: `NAME=VALUE`, and what is said of it.
fn cookie(answer: &Answer) -> (String, Vec<String>) {
    let set: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!(set.len(), 1, "{answer:?}");
    let mut parts = set[0].1.split(';').map(|part| part.trim().to_owned());
    (parts.next().expect("a pair"), parts.collect())
}

/// Who answers eight times, in turn, to somebody who says `cookie`.
fn with_cookie(site: &Site, server: &Sealward, cookie: &str) -> Vec<String> {
    names(site, server, "/", 8, &["-H", &format!("cookie: other=1; {cookie}; more=2")])
}

/// As many of the one as of the other.
fn alternate(names: &[String]) -> bool {
    2 * count(names, "one") == names.len() && 2 * count(names, "two") == names.len()
}

#[test]
fn who_keeps_its_cookie_stays_where_it_was() {
    let (site, (one, two)) = (Site::new(), two());
    let server = serve(&site, &both(&one, &two, "sticky = { duration = \"1h\" }"));
    for version in VERSIONS {
        let jar = jar(&site, &format!("jar{version}"));
        let kept = [version, "-c", jar.as_str(), "-b", jar.as_str()];
        let first = said(&ask(&site, &server, "/", &kept), "name");
        for _ in 0..4 {
            assert_eq!(count(&names(&site, &server, "/", 5, &kept), &first), 5, "{version}");
        }
        assert!(alternate(&names(&site, &server, "/", 10, &[version])), "{version}: who keeps none takes turns");
    }
}

#[test]
fn the_cookie_says_nothing_but_how_long_it_is_good() {
    let (site, (one, two)) = (Site::new(), two());
    let server = serve(&site, &both(&one, &two, "sticky = { cookie = \"lb\", duration = \"1h\" }"));
    let shape = Regex::new("^lb=[0-9a-f]+[.][A-Za-z0-9_-]{22}$").expect("a pattern");
    for version in VERSIONS {
        // On whatever the app answers.
        for path in ["/", "/status/404", "/status/500"] {
            let (pair, about) = cookie(&ask(&site, &server, path, &[version]));
            assert!(shape.is_match(&pair), "{pair}");
            for attribute in ["Secure", "HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=3600"] {
                assert!(about.iter().any(|other| other == attribute), "{attribute}: {about:?}");
            }
            assert_eq!(about.len(), 5, "it is for this very host: {about:?}");
        }
    }
    drop(server);
    // Without `sticky` there is none.
    let server = serve(&site, &both(&one, &two, ""));
    assert_eq!(ask(&site, &server, "/", &[]).header("set-cookie"), "");
}

#[test]
fn a_cookie_that_isnt_ours_leads_nowhere() {
    let (site, (one, two)) = (Site::new(), two());
    let server = serve(&site, &both(&one, &two, "sticky = { cookie = \"lb\" }"));
    let answer = ask(&site, &server, "/", &[]);
    let (pair, _) = cookie(&answer);
    assert_eq!(count(&with_cookie(&site, &server, &pair), &said(&answer, "name")), 8, "ours does");
    let (until, tag) = pair.strip_prefix("lb=").and_then(|value| value.split_once('.')).expect("both");
    let other = if tag.starts_with('A') { 'B' } else { 'A' };
    let later = u64::from_str_radix(until, 16).expect("a number") + 3600;
    for forged in [
        format!("lb={until}.{other}{}", &tag[1..]),
        format!("lb={later:x}.{tag}"),
        format!("lb={until}.{}", &tag[..20]),
        format!("lb={until}."),
        format!("lb={}.{tag}", "f".repeat(300)),
        format!("lb={}", one.url()),
        "lb=".to_owned(),
        format!("xlb={until}.{tag}"),
        "lb=1.AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
    ] {
        assert!(alternate(&with_cookie(&site, &server, &forged)), "{forged}");
        let (fresh, _) = cookie(&ask(&site, &server, "/", &["-H", &format!("cookie: {forged}")]));
        assert_ne!(fresh, forged, "it gets one that is good");
    }
}

#[test]
fn who_was_at_a_target_that_died_is_led_to_another_and_stays_there() {
    let (site, (mut one, mut two)) = (Site::new(), two());
    let server = serve(&site, &both(&one, &two, "sticky = {}"));
    let jar = jar(&site, "jar");
    let kept = ["-c", jar.as_str(), "-b", jar.as_str()];
    let (dead, other) = match said(&ask(&site, &server, "/", &kept), "name").as_str() {
        "one" => (&mut one, "two"),
        _ => (&mut two, "one"),
    };
    let before = fs::read_to_string(&jar).expect("reads");
    dead.kill();
    assert_eq!(count(&names(&site, &server, "/", 6, &kept), other), 6, "none of them failed");
    assert_ne!(fs::read_to_string(&jar).expect("reads"), before, "it has another cookie");
    dead.go();
    assert_eq!(count(&names(&site, &server, "/", 6, &kept), other), 6, "nobody is sent back");
}

#[test]
fn servers_that_share_a_key_know_each_others_cookies() {
    let (sites, (one, two)) = ([Site::new(), Site::new(), Site::new()], two());
    fs::write(sites[1].path("sticky.key"), format!("{KEY}\n")).expect("writes");
    let keys = [KEY, "${file:sticky.key}", "another that is as long, and known to others"];
    let servers: Vec<_> = sites
        .iter()
        .zip(keys)
        .map(|(site, key)| serve(site, &both(&one, &two, &format!("sticky = {{ key = \"{key}\" }}"))))
        .collect();
    for _ in 0..2 {
        let answer = ask(&sites[0], &servers[0], "/", &[]);
        let ((pair, _), name) = (cookie(&answer), said(&answer, "name"));
        assert_eq!(count(&with_cookie(&sites[1], &servers[1], &pair), &name), 8);
        assert!(alternate(&with_cookie(&sites[2], &servers[2], &pair)), "another key");
    }
    assert!(servers.iter().all(|server| !server.log().contains(KEY)));
}

#[test]
fn a_cookie_is_good_after_a_reload_too() {
    let (site, (one, two)) = (Site::new(), two());
    let server = serve(&site, &both(&one, &two, "sticky = {}"));
    let answer = ask(&site, &server, "/", &[]);
    let ((pair, _), name) = (cookie(&answer), said(&answer, "name"));
    // No key is configured, and what is spoken to is made anew.
    reload(&site, &server, &Site::config("", &both(&two, &one, "sticky = {}\nidle_timeout = \"50s\"")));
    assert_eq!(count(&with_cookie(&site, &server, &pair), &name), 8);
}

/// A route to two groups with these shares.
fn groups(one: &Nginx, two: &Nginx, shares: [u16; 2], sticky: &str) -> String {
    let group =
        |name: &str, weight: u16| format!("[[route.forward.groups]]\nupstream = \"{name}\"\nweight = {weight}\n");
    let upstream =
        |name: &str, app: &Nginx| format!("[[upstream]]\nname = \"{name}\"\ntargets = [\"{}\"]\n", app.url());
    let parts = [
        "[[route]]\npath = \"/\"\npublic = true\n[route.forward]\n".to_owned(),
        group("old", shares[0]),
        group("new", shares[1]),
        sticky.to_owned(),
        upstream("old", one),
        upstream("new", two),
    ];
    Site::config("", &parts.concat())
}

#[test]
fn groups_get_their_shares_of_clients() {
    let (site, (one, two)) = (Site::new(), two());
    let server = site.serve_text(&groups(&one, &two, [9, 1], ""));
    for version in VERSIONS {
        let names = names(&site, &server, "/", 400, &[version]);
        // Of a tenth, 40, that is five standard deviations and more to either side.
        assert!((9..=75).contains(&count(&names, "two")), "{version}: {} of 400", count(&names, "two"));
    }
    assert_eq!(ask(&site, &server, "/", &[]).header("set-cookie"), "");
    let sent =
        |name: &str| server.metric(&format!("sealward_upstream_requests_total{{status=\"200\",upstream=\"{name}\"}}"));
    assert_eq!(sent("old") + sent("new"), 801.0);
}

#[test]
fn who_came_to_a_group_stays_there_also_when_it_takes_nobody_new() {
    let (site, (one, two)) = (Site::new(), two());
    let sticky = "[route.forward.sticky]\ncookie = \"group\"\n";
    let server = site.serve_text(&groups(&one, &two, [1, 1], sticky));
    let mut bound = Vec::new();
    for wanted in ["one", "two"] {
        // That it is never drawn has the chance of 2 to the power of -64.
        let mut answers = (0..64).map(|_| ask(&site, &server, "/", &[]));
        let answer = answers.find(|answer| said(answer, "name") == wanted).expect("one of each");
        bound.push((wanted, cookie(&answer).0));
    }
    let stay = || {
        for (name, pair) in &bound {
            assert!(pair.starts_with("group="), "{pair}");
            assert_eq!(count(&with_cookie(&site, &server, pair), name), 8);
        }
    };
    stay();
    // With a jar, whichever it is.
    let jar = jar(&site, "jar");
    let kept = ["-c", jar.as_str(), "-b", jar.as_str()];
    let first = said(&ask(&site, &server, "/", &kept), "name");
    assert_eq!(count(&names(&site, &server, "/", 20, &kept), &first), 20);

    reload(&site, &server, &groups(&one, &two, [1, 0], sticky));
    assert_eq!(count(&names(&site, &server, "/", 64, &[]), "one"), 64, "it takes nobody new");
    stay();
}
