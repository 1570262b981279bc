//! `[[upstream]]`: the apps behind.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use http::Uri;

use super::{
    Choice, Fault, Health, Protocol, Sticky, Target, Upstream, UpstreamTls,
    document::{Found, Section},
    named::{self, Named},
    report::quoted,
};
use crate::secret::SecretText;

const TICK: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const CHOICES: [(&str, Choice); 3] = [
    ("round_robin", Choice::RoundRobin),
    ("least_requests", Choice::LeastRequests),
    ("two_choices", Choice::TwoChoices),
];
const PROTOCOLS: [(&str, Protocol); 2] = [("http1", Protocol::Http1), ("http2", Protocol::Http2)];

/// Reads the upstreams and compares their names.
pub(super) fn read(sections: Vec<Section<'_>>) -> Named<Upstream> {
    named::read(sections, "upstream", upstream)
}

fn upstream(section: &Section<'_>) -> (Option<Found<String>>, Option<Upstream>) {
    section.require("name", "\"app\"");
    section.require("targets", "[\"http://127.0.0.1:9100\"]");
    let name = section.string("name").filter(|name| named::fits(section, name, "upstream"));
    let targets = targets(section);
    let choice = section.one_of("choice", &CHOICES).unwrap_or(Choice::RoundRobin);
    let protocol = section.one_of("protocol", &PROTOCOLS).unwrap_or(Protocol::Http1);
    let tls = section.section("tls").map(|tls| self::tls(&tls)).unwrap_or_default();
    let health = section.section("health").map(|health| self::health(&health));
    let duration = |key, default| section.duration(key, TICK..=HOUR).unwrap_or(default);
    let connect_timeout = duration("connect_timeout", 5 * SECOND);
    let idle_timeout = duration("idle_timeout", 60 * SECOND);
    let head_timeout = duration("head_timeout", idle_timeout);
    let cookie = format!("sealward-{}", name.as_ref().map_or("app", |name| name.value.as_str()));
    let sticky = section.section("sticky").map(|sticky| self::sticky(&sticky, &cookie));
    let none_or = |key, default| section.duration(key, Duration::ZERO..=HOUR).unwrap_or(default);
    let slow_start = none_or("slow_start", Duration::ZERO);
    let deregistration_delay = none_or("deregistration_delay", 300 * SECOND);
    let resolve = section.duration("resolve", 100 * TICK..=HOUR).unwrap_or(30 * SECOND);
    section.finish();
    let upstream = || {
        Some(Upstream {
            name: name.as_ref()?.value.clone(),
            targets: targets?,
            choice,
            protocol,
            tls,
            health,
            connect_timeout,
            idle_timeout,
            head_timeout,
            sticky,
            slow_start,
            deregistration_delay,
            resolve,
        })
    };
    let upstream = upstream();
    (name, upstream)
}

/// `sticky` of an upstream, or of a route's groups.
pub(super) fn sticky(section: &Section<'_>, default: &str) -> Sticky {
    let cookie = section.string("cookie").filter(|cookie| {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=64).contains(&cookie.value.len()) && cookie.value.chars().all(good);
        if !fits {
            let fault = Fault::new("`cookie` is no name of a cookie", "write 1 to 64 of A-Z a-z 0-9 - _ .");
            section.fault(fault.at(&cookie.span, "this name"));
        }
        fits
    });
    let duration = section.duration("duration", SECOND..=7 * 24 * HOUR).unwrap_or(24 * HOUR);
    let key = section.string("key").and_then(|key| {
        let long = key.value.len() >= 32;
        if !long {
            let help = "write at least 32 characters that nobody can guess, such as `key = \"${file:sticky.key}\"`";
            section.fault(Fault::new("`key` of `sticky` is short", help).at(&key.span, "this key"));
        }
        long.then(|| SecretText::new(key.value))
    });
    section.finish();
    Sticky { cookie: cookie.map_or_else(|| default.to_owned(), |cookie| cookie.value), duration, key }
}

/// Addresses, or tables of an address and a weight.
fn targets(section: &Section<'_>) -> Option<Vec<Target>> {
    let mut all = Some(Vec::new());
    let mut seen = BTreeSet::new();
    let mut add = |found: Option<(Found<String>, u32)>| {
        let parsed = found.and_then(|(url, weight)| {
            let target = target(section, &url, weight)?;
            if !seen.insert((target.https, target.authority.clone())) {
                let fault =
                    Fault::new(format!("the target {} is there twice", quoted(&url.raw)), "give it a `weight` in one");
                section.fault(fault.at(&url.span, "again"));
            }
            Some(target)
        });
        match (parsed, &mut all) {
            (Some(target), Some(all)) => all.push(target),
            _ => all = None,
        }
    };
    if section.is_list_of_tables("targets") {
        for table in section.sections("targets") {
            table.require("url", "\"http://127.0.0.1:9100\"");
            let url = table.string("url");
            let weight = table.integer("weight", 0..=1000).unwrap_or(1);
            table.finish();
            add(url.map(|url| (url, u32::try_from(weight).unwrap_or(1))));
        }
    } else {
        section.strings("targets")?.into_iter().for_each(|url| add(Some((url, 1))));
    }
    let all = all?;
    if all.iter().all(|target| target.weight == 0) {
        let help = "name at least one target with a weight above 0";
        section.own_fault(Fault::new("the upstream has no target that takes requests", help), "in this table");
        return None;
    }
    Some(all)
}

fn target(section: &Section<'_>, url: &Found<String>, weight: u32) -> Option<Target> {
    let fault = || {
        let help = "write scheme, host and port, and no more: `http://127.0.0.1:9100`, `https://app.internal:8443`";
        section.fault(Fault::new(format!("{} is no target", quoted(&url.raw)), help).at(&url.span, "this address"));
    };
    let parsed = url.value.parse::<Uri>().ok();
    let target = parsed.and_then(|uri| {
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if uri.path() != "/" || uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty()
        {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Target { https, authority: format!("{}:{port}", authority.host()), weight })
    });
    if target.is_none() {
        fault();
    }
    target
}

fn tls(section: &Section<'_>) -> UpstreamTls {
    let path = |key| section.path(key).map(|path| path.value);
    let (roots, cert, key): (Option<PathBuf>, _, _) = (path("roots"), path("cert"), path("key"));
    for (there, key, other) in [(&cert, "key", "\"client-key.pem\""), (&key, "cert", "\"client.pem\"")] {
        if there.is_some() {
            section.require(key, other);
        }
    }
    let name = section.string("server_name").map(|name| name.value);
    section.finish();
    UpstreamTls { roots, client: cert.zip(key), server_name: name }
}

fn health(section: &Section<'_>) -> Health {
    let path = section.string("path").filter(|path| {
        let good = path.value.starts_with('/') && path.value.parse::<Uri>().is_ok();
        if !good {
            let fault =
                Fault::new("`path` of a health check is no path", "write it from the slash: `path = \"/healthz\"`");
            section.fault(fault.at(&path.span, "this path"));
        }
        good
    });
    let codes = section.string("codes").and_then(|codes| ranges(section, &codes)).unwrap_or_else(|| vec![(200, 399)]);
    let interval = section.duration("interval", 100 * TICK..=HOUR).unwrap_or(10 * SECOND);
    let timeout = section.duration("timeout", TICK..=HOUR).unwrap_or(5 * SECOND);
    let count =
        |key, default| section.integer(key, 1..=100).and_then(|count| u32::try_from(count).ok()).unwrap_or(default);
    let (healthy, unhealthy) = (count("healthy", 2), count("unhealthy", 3));
    section.finish();
    Health { path: path.map_or_else(|| "/".into(), |path| path.value), codes, interval, timeout, healthy, unhealthy }
}

/// `200-299,404` as pairs.
fn ranges(section: &Section<'_>, codes: &Found<String>) -> Option<Vec<(u16, u16)>> {
    let one = |part: &str| {
        let (from, to) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        ((100..=599).contains(&from) && from <= to && to <= 599).then_some((from, to))
    };
    let found: Option<Vec<_>> = codes.value.split(',').map(one).collect();
    if found.is_none() {
        let fault = Fault::new("`codes` can't be read", "write statuses and ranges: `codes = \"200-299,404\"`");
        section.fault(fault.at(&codes.span, "these statuses"));
    }
    found
}
