//! Clients' certificates: what a listener asks of them, and whose they are.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Bears, Certified, ClientAuth, ClientMode, Fault, Identity, Listener, San,
    classes::Classes,
    document::{Found, Section},
    report::{listed, nearest, quoted},
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MODES: [(&str, Option<ClientMode>); 4] = [
    ("none", None),
    ("request", Some(ClientMode::Request)),
    ("require", Some(ClientMode::Require)),
    ("passthrough", Some(ClientMode::PassThrough)),
];
/// What belongs to `client_auth`.
const OTHERS: [&str; 4] = ["client_trust", "client_revocation", "client_revocation_expiry", "client_refresh"];
const ACTIONS: [&str; 5] = ["read", "write", "delete", "list", "share"];
/// Attributes of subjects, as RFC 4514 and OpenSSL call them.
const ATTRIBUTES: [(&str, &str); 14] = [
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("serialNumber", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("street", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("title", "2.5.4.12"),
    ("GN", "2.5.4.42"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
];
const BEARS: [&str; 4] = ["san", "subject", "fingerprint", "any"];

/// What `tls` says of clients' certificates.
pub(super) fn read(section: &Section<'_>) -> Option<ClientAuth> {
    let mode = section.one_of("client_auth", &MODES).flatten();
    let passes = mode == Some(ClientMode::PassThrough);
    // A mode that can't be read, or isn't fetched yet, has its own fault or none.
    if section.has("client_auth") && mode.is_none() && !section.is_written("client_auth", "none") {
        for key in OTHERS {
            section.allow(key);
        }
        return None;
    }
    if mode.is_none() || passes {
        let (title, help) = if passes {
            ("a certificate that is handed on is not judged", "write `client_auth = \"request\"`, or leave this out")
        } else {
            ("no client is asked for a certificate here", "write `client_auth = \"require\"` or `\"request\"`")
        };
        for key in OTHERS {
            section.refuse(key, title, help);
        }
        return mode.map(|mode| ClientAuth {
            mode,
            trust: None,
            revocation: vec![],
            revocation_expiry: false,
            refresh: DAY,
        });
    }
    section.require("client_trust", "\"clients-ca.pem\"");
    let trust = section.path("client_trust").map(|path| path.value);
    let revocation = section.paths("client_revocation").unwrap_or_default();
    let expiry = section.one_of("client_revocation_expiry", &[("ignore", false), ("enforce", true)]);
    let refresh = section.duration("client_refresh", SECOND..=DAY).unwrap_or(10 * SECOND);
    let revocation_expiry = expiry.unwrap_or(false);
    Some(ClientAuth { mode: mode?, trust: Some(trust?), revocation, revocation_expiry, refresh })
}

/// `[[identity.mtls]]`; those with a fault are left out.
pub(super) fn certified(sections: Vec<Section<'_>>, classes: &Classes) -> Vec<Certified> {
    sections.iter().filter_map(|section| one(section, classes)).collect()
}

/// What must hold between listeners and callers.
///
/// Where listeners trust differently, one could vouch for a caller that another has
/// revoked, or that another's authority named: each entry has to say on which it holds.
pub(super) fn agree(listeners: &[Listener], identity: &Identity, mut fault: impl FnMut(Fault)) {
    let judging = |listener: &&Listener| {
        let clients = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        clients.is_some_and(|clients| clients.trust.is_some())
    };
    let judging: Vec<&Listener> = listeners.iter().filter(judging).collect();
    let trust = |listener: &Listener| {
        let clients = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        clients.map(|clients| (clients.trust.clone(), clients.revocation.clone(), clients.revocation_expiry))
    };
    let differ = judging.windows(2).any(|pair| trust(pair[0]) != trust(pair[1]));
    let mut names = BTreeSet::new();
    for (at, caller) in identity.certified.iter().enumerate() {
        let name = quoted(&caller.name);
        if !names.insert(&caller.name) {
            fault(Fault::new(format!("two callers are called {name}"), "give one of them another `name`"));
        }
        match caller.listener {
            None if judging.is_empty() => {
                let help = "add `client_auth` and `client_trust` to a listener's `tls`, or leave the entry out";
                fault(Fault::new(format!("no listener judges certificates, so that nobody is caller {name}"), help));
            }
            None if differ => {
                let title = format!("listeners judge certificates differently, and caller {name} is known on all");
                fault(Fault::new(title, "say in each `[[identity.mtls]]` on which `listener` it holds"));
            }
            Some(listener) if !judging.iter().any(|judging| judging.bind == listener) => {
                let help = "write the `bind` of a listener with `client_trust`, just as it stands there";
                fault(Fault::new(format!("caller {name} holds on {listener}, which judges no certificates"), help));
            }
            _ => {}
        }
        let later = identity.certified[at + 1..]
            .iter()
            .any(|later| later.listener == caller.listener || caller.listener.is_none());
        if caller.bears == Bears::Anything && later {
            fault(Fault::new(
                format!("caller {name} is anybody, so that the entries after it are nobody"),
                "put it last",
            ));
        }
    }
    for listener in judging {
        let clients = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        if clients.is_some_and(|clients| clients.revocation_expiry && clients.revocation.is_empty()) {
            let title = format!("listener {} enforces the expiry of lists, and has none", listener.bind);
            fault(Fault::new(title, "name one as `client_revocation`, or leave `client_revocation_expiry` out"));
        }
    }
}

fn one(section: &Section<'_>, classes: &Classes) -> Option<Certified> {
    section.require("name", "\"imaging\"");
    let name = section.string("name").filter(|name| {
        let good = !name.value.is_empty() && name.value != "anonymous" && !name.value.contains(char::is_control);
        if !good {
            let fault =
                Fault::new("`name` is no caller's", "write what the log is to call them; `anonymous` is nobody");
            section.fault(fault.at(&name.span, "this name"));
        }
        good
    });
    let bears = bears(section);
    let listener = section.address("listener").map(|address| address.value);
    let names = classes.names();
    let known = |class: &Found<String>| {
        let Some(names) = &names else { return true };
        let found = names.iter().any(|name| name.value == class.value);
        if !found {
            let help = match nearest(&class.raw, names.iter().map(|name| name.value.as_str())) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "name a `[[class]]`, or leave `classes` out for all of them".into(),
            };
            section
                .fault(Fault::new(format!("there is no class {}", quoted(&class.raw)), help).at(&class.span, "here"));
        }
        found
    };
    let allowed = |action: &Found<String>| {
        let found = ACTIONS.contains(&action.value.as_str());
        if !found {
            let help = format!("what fits: {}", listed(ACTIONS));
            let title = format!("`actions` cannot have {}", quoted(&action.raw));
            section.fault(Fault::new(title, help).at(&action.span, "not an action"));
        }
        found
    };
    let set = |key: &'static str, fits: &dyn Fn(&Found<String>) -> bool| -> BTreeSet<String> {
        if section.is_empty_list(key) {
            let help = format!("leave `{key}` out for all, or name some");
            section.own_fault(Fault::new(format!("`{key}` is empty: this caller may nothing"), help), "in this table");
        }
        let found = section.strings(key).unwrap_or_default();
        found.into_iter().filter(|found| fits(found)).map(|found| found.value).collect()
    };
    let (classes, actions) = (set("classes", &known), set("actions", &allowed));
    section.finish();
    Some(Certified { name: name?.value, bears: bears?, listener, classes, actions })
}

fn bears(section: &Section<'_>) -> Option<Bears> {
    let san = section.string("san");
    let subject = section.string("subject");
    let fingerprint = section.string("fingerprint");
    let any = section.boolean("any");
    let written = BEARS.iter().filter(|key| section.has(key)).count();
    if written != 1 {
        let help = format!("write one of {}", listed(BEARS));
        section
            .own_fault(Fault::new("which certificates are theirs?", help), &format!("{written} ways are named here"));
        return None;
    }
    let odd = |found: &Found<String>, help: &str| {
        let title = format!("{} is none", quoted(&found.raw));
        section.fault(Fault::new(title, help).at(&found.span, "this value"));
    };
    if let Some(found) = san {
        if found.value.is_empty() || found.value.contains('*') {
            odd(&found, "write the whole of a DNS name, URI or mail address: nothing stands for others");
            return None;
        }
        let scheme = found.value.split_once(':').is_some_and(|(scheme, _)| {
            scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))
        });
        let kind = if scheme {
            San::Uri
        } else if found.value.contains('@') {
            San::Mail
        } else {
            San::Dns
        };
        return Some(Bears::Name(kind, found.value));
    }
    if let Some(found) = subject {
        let Some(attributes) = attributes(&found.value) else {
            odd(&found, "write attributes as `CN=imaging, O=Clinic`; a comma in a value is written `\\,`");
            return None;
        };
        let mut known: Vec<(String, String)> = Vec::new();
        for (kind, value) in attributes {
            let Some(oid) = oid(&kind) else {
                let names = ATTRIBUTES.iter().map(|(name, _)| *name);
                let help = match nearest(&kind, names.clone()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("write one of {}, or an OID", listed(names)),
                };
                let fault = Fault::new(format!("{} is no attribute of a subject", quoted(&kind)), help);
                section.fault(fault.at(&found.span, "in this subject"));
                return None;
            };
            if known.iter().any(|(other, _)| *other == oid) {
                odd(&found, "write each attribute once: a certificate that has one twice is nobody's");
                return None;
            }
            known.push((oid, value));
        }
        return Some(Bears::Subject(known));
    }
    if let Some(found) = fingerprint {
        let hex: String = found.value.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            odd(&found, "write SHA-256 in hexadecimal, as `openssl x509 -noout -fingerprint -sha256` shows it");
            return None;
        }
        return Some(Bears::Fingerprint(hex));
    }
    if any == Some(false) {
        section.own_fault(
            Fault::new("`any` is true or not there", "name `san`, `subject` or `fingerprint`"),
            "in this table",
        );
        return None;
    }
    any.map(|_| Bears::Anything)
}

/// The OID of an attribute, by a name of it or as it is.
fn oid(kind: &str) -> Option<String> {
    let dotted =
        kind.contains('.') && kind.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let named = ATTRIBUTES.iter().find(|(name, _)| *name == kind).map(|(_, oid)| (*oid).to_owned());
    named.or_else(|| dotted.then(|| kind.to_owned()))
}

/// `CN=imaging, O=Clinic` in its parts.
fn attributes(text: &str) -> Option<Vec<(String, String)>> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        let last = parts.last_mut()?;
        match c {
            '\\' => last.push(characters.next()?),
            ',' => parts.push(String::new()),
            c => last.push(c),
        }
    }
    let pair = |part: String| {
        let (kind, value) = part.split_once('=')?;
        let (kind, value) = (kind.trim().to_owned(), value.trim().to_owned());
        (!kind.is_empty() && !value.is_empty()).then_some((kind, value))
    };
    parts.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::attributes;

    #[test]
    fn subjects_fall_into_attributes() {
        let of = |text| attributes(text).map(|found| found.iter().map(|(k, v)| format!("{k}|{v}")).collect::<Vec<_>>());
        assert_eq!(of("CN=imaging"), Some(vec!["CN|imaging".into()]));
        assert_eq!(of("CN=a\\, b , O=x=y"), Some(vec!["CN|a, b".into(), "O|x=y".into()]));
        for bad in ["", "CN", "CN=", "=x", "CN=a,", "CN=a\\"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
