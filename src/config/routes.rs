//! `[[route]]`: which request goes where.

use std::ops::Range;

use super::{
    Action, Route,
    classes::Classes,
    document::{Found, Section},
    report::{Fault, listed, nearest, quoted},
};

/// The routes as far as they could be read.
pub(super) struct Routes {
    drafts: Vec<Draft>,
}

struct Draft {
    span: Range<usize>,
    path: Option<Found<String>>,
    host: Option<String>,
    public: bool,
    action: Option<Action>,
}

impl Routes {
    /// Every route, if all could be read.
    pub(super) fn finished(self) -> Option<Vec<Route>> {
        let finished = |draft: Draft| {
            let Draft { path, host, public, action, .. } = draft;
            Some(Route { path: path?.value, host, public, action: action? })
        };
        self.drafts.into_iter().map(finished).collect()
    }

    /// Where the first route stands that asks for a caller.
    pub(super) fn first_closed(&self) -> Option<Range<usize>> {
        self.drafts.iter().find(|draft| !draft.public).map(|draft| draft.span.clone())
    }
}

/// Reads the routes and compares them.
pub(super) fn read(sections: Vec<Section<'_>>, classes: &Classes) -> Routes {
    let mut drafts: Vec<Draft> = Vec::new();
    for section in sections {
        let draft = draft(&section, classes);
        if let Some(path) = &draft.path {
            let same = |other: &Found<String>| other.value == path.value;
            let mut earlier = drafts.iter().filter(|earlier| earlier.host == draft.host);
            if let Some(first) = earlier.find_map(|earlier| earlier.path.as_ref().filter(|other| same(other))) {
                let title = format!("two routes have the path {} of one host", quoted(&path.raw));
                let fault = Fault::new(title, "remove one of them, or give it another `path` or `host`");
                section.fault(fault.at(&path.span, "never reached").and_at(&first.span, "first here"));
            }
        }
        drafts.push(draft);
    }
    Routes { drafts }
}

fn draft(section: &Section<'_>, classes: &Classes) -> Draft {
    section.require("path", "\"/files/\"");
    let path = section.string("path").filter(|path| check_path(section, path));
    let host = section.string("host");
    if let Some(host) = &host {
        check_host(section, host);
    }
    // A fault here is reported already; that no caller is known is not a second one.
    let public = section.boolean("public").unwrap_or(section.has("public"));
    let action = action(section, classes);
    section.finish();
    Draft { span: section.span(), path, host: host.map(|host| host.value.to_ascii_lowercase()), public, action }
}

/// The one thing that the route does.
fn action(section: &Section<'_>, classes: &Classes) -> Option<Action> {
    const OTHERS: [&str; 3] = ["forward", "redirect", "respond"];
    for other in OTHERS {
        let title = format!("this build's routes seal only, and don't `{other}`");
        section.refuse(other, &title, "write `seal = { class = \"…\" }`, or leave the route out");
    }
    if !section.has("seal") && !OTHERS.iter().any(|other| section.has(other)) {
        let fault = Fault::new("the `[[route]]` does nothing", "add `seal = { class = \"…\" }` with a class's name");
        section.own_fault(fault, "exactly one action belongs here");
    }
    let seal = section.section("seal")?;
    seal.require("class", "\"records\"");
    let class = seal.string("class");
    seal.finish();
    let class = class?;
    // A class whose name can't be read may be the one that is meant.
    let names = classes.names()?;
    if !names.iter().any(|name| name.value == class.value) {
        let raws = || names.iter().map(|name| name.raw.as_str());
        let help = match nearest(&class.raw, raws()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if names.is_empty() => "add a `[[class]]` with this `name`".to_owned(),
            None => format!("the classes are {}", listed(raws())),
        };
        let fault = Fault::new(format!("there is no class {}", quoted(&class.raw)), help);
        section.fault(fault.at(&class.span, "no `[[class]]` has this name"));
        return None;
    }
    Some(Action::Seal { class: class.value })
}

fn check_path(section: &Section<'_>, path: &Found<String>) -> bool {
    let value = path.value.as_str();
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#' | '%' | '\\');
    let inside = value.strip_prefix('/').map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let why = if !value.starts_with('/') {
        "does not begin with `/`"
    } else if !value.ends_with('/') {
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
    let help = "write the beginning of a path, decoded, with `/` at both ends, such as `\"/files/\"` or `\"/\"`";
    section.fault(Fault::new(format!("a route's `path` {why}"), help).at(&path.span, why));
    false
}

fn check_host(section: &Section<'_>, host: &Found<String>) {
    let value = host.value.as_str();
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let address = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fits = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !value.is_empty() && value.len() <= 253 && value.chars().all(name),
    };
    if !fits {
        let help = "write a host's name or address without scheme, port or wildcard, such as `\"files.example\"`";
        let fault = Fault::new(format!("`host` cannot be {}", quoted(&host.raw)), help);
        section.fault(fault.at(&host.span, "not a host"));
    }
}
