//! `[[route]]`: which request goes where.

use std::ops::Range;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::Regex;

use super::{
    Action, Forward, Forwarded, Group, HeaderEdits, Host, Matching, Path, Quota, Redirect, Respond, Route, Sticky,
    Upstream,
    classes::Classes,
    document::{Found, Section},
    named::{self, Named},
    report::{Fault, listed, quoted},
    upstreams,
};

const ACTIONS: [&str; 4] = ["seal", "forward", "redirect", "respond"];
const FORWARDED: [(&str, Forwarded); 3] =
    [("append", Forwarded::Append), ("preserve", Forwarded::Preserve), ("remove", Forwarded::Remove)];
const REDIRECTS: [(&str, StatusCode); 4] = [
    ("301", StatusCode::MOVED_PERMANENTLY),
    ("302", StatusCode::FOUND),
    ("307", StatusCode::TEMPORARY_REDIRECT),
    ("308", StatusCode::PERMANENT_REDIRECT),
];
/// Headers that frame a message or name a hop: nobody's to change.
const UNTOUCHED: [&str; 6] = ["connection", "content-length", "host", "te", "transfer-encoding", "upgrade"];
/// The largest pattern, compiled; bytes.
const PATTERN: usize = 1 << 20;

/// The routes as far as they could be read.
pub(super) struct Routes {
    drafts: Vec<Draft>,
}

struct Draft {
    span: Range<usize>,
    path: Option<Found<String>>,
    matching: Option<Matching>,
    public: bool,
    quotas: Vec<String>,
    compress: bool,
    action: Option<Action>,
}

impl Routes {
    /// Every route, if all could be read.
    pub(super) fn finished(self) -> Option<Vec<Route>> {
        let finished = |draft: Draft| {
            let Draft { path, matching, public, quotas, compress, action, .. } = draft;
            Some(Route { label: path?.value, matching: matching?, public, quotas, compress, action: action? })
        };
        self.drafts.into_iter().map(finished).collect()
    }

    /// Where the first route stands that asks for a caller.
    pub(super) fn first_closed(&self) -> Option<Range<usize>> {
        let asks =
            |draft: &&Draft| !draft.public && !matches!(draft.action, Some(Action::Redirect(_) | Action::Respond(_)));
        self.drafts.iter().find(asks).map(|draft| draft.span.clone())
    }
}

/// Reads the routes and compares them.
pub(super) fn read(
    sections: Vec<Section<'_>>,
    classes: &Classes,
    upstreams: &Named<Upstream>,
    quotas: &Named<Quota>,
) -> Routes {
    let mut drafts: Vec<Draft> = Vec::new();
    for section in sections {
        let draft = draft(&section, classes, upstreams, quotas);
        if let (Some(path), Some(matching)) = (&draft.path, &draft.matching) {
            let same = |earlier: &&Draft| earlier.matching.as_ref().is_some_and(|other| other.is_alike(matching));
            let first = drafts.iter().find(same).and_then(|earlier| earlier.path.as_ref());
            if let Some(first) = first {
                let title = format!("two routes have the path {} of one host", quoted(&path.raw));
                let fault = Fault::new(title, "remove one of them, or give it another `path` or `host`");
                section.fault(fault.at(&path.span, "never reached").and_at(&first.span, "first here"));
            }
        }
        drafts.push(draft);
    }
    Routes { drafts }
}

fn draft(section: &Section<'_>, classes: &Classes, upstreams: &Named<Upstream>, quotas: &Named<Quota>) -> Draft {
    if !section.has("path_pattern") {
        section.require("path", "\"/files/\"");
    }
    let (path, matched) = path(section);
    let host = section.string("host").and_then(|host| self::host(section, &host));
    let methods = methods(section);
    let headers = pairs(section, "headers", |name| name.parse::<HeaderName>().ok());
    let query = pairs(section, "query", |name| Some(name.to_owned()));
    let sources = section.networks("sources");
    let priority = section.integer("priority", 1..=50_000).and_then(|priority| u32::try_from(priority).ok());
    // A fault here is reported already; that no caller is known is not a second one.
    let public = section.boolean("public").unwrap_or(section.has("public"));
    let wanted = section.strings("quotas").unwrap_or_default();
    let names = quotas.names();
    let known =
        |found: &Found<String>| names.as_ref().is_some_and(|names| named::known(section, found, names, "quota"));
    let quotas = wanted.into_iter().filter(known).map(|found| found.value).collect();
    let compress = section.boolean("compress").unwrap_or(false);
    if compress && (section.has("seal") || section.has("redirect")) {
        let help = "leave it out: objects are served byte by byte, by range and under their entity tag";
        section.own_fault(Fault::new("only answers of apps, and fixed ones, can be compressed", help), "this route");
    }
    let action = action(section, classes, upstreams, matched.as_ref());
    section.finish();
    let matching = matched.map(|path| Matching { path, host, methods, headers, query, sources, priority });
    Draft { span: section.span(), path, matching, public, quotas, compress, action }
}

/// `path` or `path_pattern`: as it is written, and what it means.
fn path(section: &Section<'_>) -> (Option<Found<String>>, Option<Path>) {
    if section.has("path_pattern") {
        section.refuse("path", "a route has one of `path` and `path_pattern`", "leave one of them out");
        let Some(found) = section.string("path_pattern") else { return (None, None) };
        let pattern = pattern(section, &found);
        return (Some(found), pattern.map(Path::Pattern));
    }
    let Some(found) = section.string("path").filter(|path| check_path(section, path)) else { return (None, None) };
    let path =
        if found.value.ends_with('/') { Path::Prefix(found.value.clone()) } else { Path::Exact(found.value.clone()) };
    (Some(found), Some(path))
}

/// The whole of what it is matched with.
fn pattern(section: &Section<'_>, found: &Found<String>) -> Option<Regex> {
    compiled(section, found, &format!("^(?:{})$", found.value))
}

fn compiled(section: &Section<'_>, found: &Found<String>, pattern: &str) -> Option<Regex> {
    match regex::RegexBuilder::new(pattern).size_limit(PATTERN).build() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let help = format!("{why}; the syntax is that of the `regex` crate");
            section.fault(
                Fault::new(format!("the pattern {} can't be read", quoted(&found.raw)), help)
                    .at(&found.span, "this pattern"),
            );
            None
        }
    }
}

fn methods(section: &Section<'_>) -> Vec<Method> {
    let methods = section.strings("methods").unwrap_or_default();
    let method = |found: Found<String>| {
        let upper =
            !found.value.is_empty() && found.value.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        let method = found.value.parse().ok().filter(|_| upper);
        if method.is_none() {
            let fault = Fault::new(
                format!("{} is no method", quoted(&found.raw)),
                "write methods in capitals: `[\"GET\", \"HEAD\"]`",
            );
            section.fault(fault.at(&found.span, "this one"));
        }
        method
    };
    methods.into_iter().filter_map(method).collect()
}

/// `{ name = "pattern" }`.
fn pairs<N>(section: &Section<'_>, key: &'static str, name: impl Fn(&str) -> Option<N>) -> Vec<(N, Regex)> {
    let found = section.entries(key).unwrap_or_default();
    let pair = |(key, value): (String, Found<String>)| {
        let named = name(&key);
        if named.is_none() {
            let fault = Fault::new(format!("{} is no name of a header", quoted(&key)), "write it as it is sent");
            section.fault(fault.at(&value.span, "its value"));
        }
        Some((named?, pattern(section, &value)?))
    };
    found.into_iter().filter_map(pair).collect()
}

/// The one thing that the route does.
fn action(
    section: &Section<'_>,
    classes: &Classes,
    upstreams: &Named<Upstream>,
    path: Option<&Path>,
) -> Option<Action> {
    let written = ACTIONS.iter().filter(|action| section.has(action)).count();
    if written == 0 {
        let help = "add `seal = { class = \"…\" }`, `forward = { upstream = \"…\" }`, `redirect` or `respond`";
        section.own_fault(Fault::new("the `[[route]]` does nothing", help), "exactly one action belongs here");
    }
    if written > 1 {
        let fault = Fault::new(
            "the `[[route]]` does more than one thing",
            format!("leave all but one of {} out", listed(ACTIONS)),
        );
        section.own_fault(fault, "exactly one action belongs here");
    }
    let seal = section.section("seal").and_then(|seal| self::seal(&seal, classes));
    if section.has("seal") && matches!(path, Some(Path::Pattern(_))) {
        let help = "write the beginning of a path, with `/` at both ends: what follows is the object's name";
        section.own_fault(Fault::new("a route that seals has a `path` that ends in `/`", help), "this route");
    }
    let forward = section.section("forward").and_then(|forward| self::forward(&forward, upstreams));
    let redirect = section.section("redirect").and_then(|redirect| self::redirect(&redirect));
    let respond = section.section("respond").and_then(|respond| self::respond(&respond));
    seal.or(forward).or(redirect).or(respond).filter(|_| written == 1)
}

fn seal(section: &Section<'_>, classes: &Classes) -> Option<Action> {
    section.require("class", "\"records\"");
    let class = section.string("class");
    section.finish();
    let class = class?;
    // A class whose name can't be read may be the one that is meant.
    named::known(section, &class, &classes.names()?, "class").then_some(Action::Seal { class: class.value })
}

fn forward(section: &Section<'_>, upstreams: &Named<Upstream>) -> Option<Action> {
    let (groups, sticky) = groups(section, upstreams);
    let x_forwarded_for = section.one_of("x_forwarded_for", &FORWARDED).unwrap_or(Forwarded::Append);
    let x_forwarded_others = section.one_of("x_forwarded_others", &FORWARDED).unwrap_or(Forwarded::Append);
    let forwarded = section.boolean("forwarded").unwrap_or(false);
    let rewrite_host = section.section("rewrite_host").and_then(|rewrite| self::rewrite(&rewrite));
    let rewrite = section.section("rewrite").and_then(|rewrite| self::rewrite(&rewrite));
    let host = section.string("host").and_then(|host| {
        let parsed = host.value.parse::<http::uri::Authority>().ok().filter(|_| !host.value.contains('@'));
        if parsed.is_none() {
            let fault = Fault::new(
                "`host` is no host",
                "write it as the app expects it: `app.internal`, with a port if need be",
            );
            section.fault(fault.at(&host.span, "this host"));
        }
        parsed.and_then(|_| HeaderValue::from_str(&host.value).ok())
    });
    let edits = |key| section.section(key).map(|edits| self::edits(&edits)).unwrap_or_default();
    let (request, response) = (edits("request"), edits("response"));
    section.finish();
    Some(Action::Forward(Box::new(Forward {
        groups: groups?,
        sticky,
        x_forwarded_for,
        forwarded,
        rewrite,
        x_forwarded_others,
        host,
        rewrite_host,
        request,
        response,
    })))
}

/// `upstream`, or `groups` of several.
fn groups(section: &Section<'_>, upstreams: &Named<Upstream>) -> (Option<Vec<Group>>, Option<Sticky>) {
    let known = |section: &Section<'_>, found: &Found<String>| {
        let names = upstreams.names();
        names.is_some_and(|names| named::known(section, found, &names, "upstream"))
    };
    if !section.has("groups") {
        section.require("upstream", "\"app\"");
        section.refuse("sticky", "one upstream alone has no groups to stay in", "write `sticky` in the `[[upstream]]`");
        let upstream = section.string("upstream").filter(|found| known(section, found));
        return (upstream.map(|upstream| vec![Group { upstream: upstream.value, weight: 1 }]), None);
    }
    section.refuse("upstream", "a route has one of `upstream` and `groups`", "leave one of them out");
    let sticky = section.section("sticky").map(|sticky| {
        // Two routes of one name would overwrite each other's.
        sticky.require("cookie", "\"sealward-shop\"");
        upstreams::sticky(&sticky, "sealward-group")
    });
    let group = |group: &Section<'_>| {
        group.require("upstream", "\"app\"");
        let upstream = group.string("upstream").filter(|found| known(group, found));
        let weight = group.integer("weight", 0..=1000).unwrap_or(1);
        group.finish();
        Some(Group { upstream: upstream?.value, weight: u32::try_from(weight).ok()? })
    };
    let tables = section.sections("groups");
    let groups: Option<Vec<_>> = tables.iter().map(group).collect();
    if groups.as_ref().is_some_and(|groups| groups.iter().all(|group| group.weight == 0)) {
        let help = "name at least one upstream with a weight above 0";
        section.own_fault(Fault::new("no group takes requests", help), "in this table");
    }
    (groups, sticky)
}

/// The path that an app sees: `pattern` finds what `to` takes the place of.
fn rewrite(section: &Section<'_>) -> Option<(Regex, String)> {
    section.require("pattern", "\"^/app/\"");
    section.require("to", "\"/\"");
    let pattern = section.string("pattern").and_then(|found| compiled(section, &found, &found.value));
    let to = section.string("to").filter(|to| {
        let good = to.value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
        if !good {
            let help = "write a path, encoded; `$1` and `${name}` stand for what the pattern's groups found";
            section.fault(Fault::new("`to` is no path", help).at(&to.span, "this path"));
        }
        good
    });
    section.finish();
    pattern.zip(to.map(|to| to.value))
}

fn edits(section: &Section<'_>) -> HeaderEdits {
    let name = |found: &str, span: &Range<usize>| {
        let name = found.parse::<HeaderName>().ok().filter(|name| !UNTOUCHED.contains(&name.as_str()));
        if name.is_none() {
            let title = format!("the header {} is not one to be changed here", quoted(found));
            let help = format!("write a header's name; {} are HTTP's own", listed(UNTOUCHED));
            section.fault(Fault::new(title, help).at(span, "here"));
        }
        name
    };
    let pairs = |key: &'static str| -> Vec<_> {
        let found = section.entries(key).unwrap_or_default();
        let pair = |(key, value): (String, Found<String>)| {
            let text = HeaderValue::from_str(&value.value).ok();
            if text.is_none() {
                let fault =
                    Fault::new(format!("the value of {} can't stand in a header", quoted(&key)), "write visible text");
                section.fault(fault.at(&value.span, "this value"));
            }
            Some((name(&key, &value.span)?, text?))
        };
        found.into_iter().filter_map(pair).collect()
    };
    let remove = section.strings("remove").unwrap_or_default();
    let remove = remove.into_iter().filter_map(|found| name(&found.value, &found.span)).collect();
    let edits = HeaderEdits { remove, set: pairs("set"), add: pairs("add") };
    section.finish();
    edits
}

fn redirect(section: &Section<'_>) -> Option<Action> {
    section.require("to", "\"https://elsewhere.example{path}\"");
    let to = section.string("to").filter(|to| {
        let good = (to.value.starts_with("https://") || to.value.starts_with("http://") || to.value.starts_with('/'))
            && to.value.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            let help = "write an address or a path; `{host}`, `{path}` and `{query}` stand for the request's own";
            section.fault(Fault::new("`to` is nowhere", help).at(&to.span, "this address"));
        }
        good
    });
    let status = section.one_of("status", &REDIRECTS).unwrap_or(StatusCode::PERMANENT_REDIRECT);
    section.finish();
    Some(Action::Redirect(Redirect { to: to?.value, status }))
}

fn respond(section: &Section<'_>) -> Option<Action> {
    let status = section.integer("status", 200..=599).unwrap_or(200);
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let body = section.string("body").map(|body| body.value).unwrap_or_default();
    let kind = section.string("content_type").map_or_else(|| "text/plain; charset=utf-8".into(), |kind| kind.value);
    section.finish();
    Some(Action::Respond(Respond { status: status?, body, content_type: kind }))
}

fn check_path(section: &Section<'_>, path: &Found<String>) -> bool {
    let value = path.value.as_str();
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#' | '%' | '\\');
    let inside = value.strip_prefix('/').map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let why = if !value.starts_with('/') {
        "does not begin with `/`"
    } else if section.has("seal") && !value.ends_with('/') {
        "does not end in `/`"
    } else if value.contains("//") {
        "has an empty segment"
    } else if inside.is_some_and(|inside| inside.split('/').any(|segment| matches!(segment, "." | ".."))) {
        "has a `.` or `..` segment"
    } else if value.contains(odd) {
        "has a character that is no part of a decoded path"
    } else {
        return true;
    };
    let help = if section.has("seal") {
        "write the beginning of a path, decoded, with `/` at both ends, such as `\"/files/\"` or `\"/\"`"
    } else {
        "write a path, decoded: with `/` at its end it is the beginning of what is matched, such as `\"/app/\"`, and \
         else the whole"
    };
    section.fault(Fault::new(format!("a route's `path` {why}"), help).at(&path.span, why));
    false
}

fn host(section: &Section<'_>, host: &Found<String>) -> Option<Host> {
    let value = host.value.to_ascii_lowercase();
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let named = |name_: &str| !name_.is_empty() && name_.len() <= 253 && name_.chars().all(name);
    let address = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match (address, value.strip_prefix("*.")) {
        (Some(address), _) if address.parse::<std::net::Ipv6Addr>().is_ok() => Some(Host::Exact(value)),
        (None, Some(domain)) if named(domain) => Some(Host::Below(domain.to_owned())),
        (None, None) if named(&value) => Some(Host::Exact(value)),
        _ => {
            let help = "write a host's name or address without scheme or port, such as `\"files.example\"`, or \
                        `\"*.example\"` for all below it";
            let fault = Fault::new(format!("`host` cannot be {}", quoted(&host.raw)), help);
            section.fault(fault.at(&host.span, "not a host"));
            None
        }
    }
}
