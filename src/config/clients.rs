//! Clients' certificates: what a listener asks of them, and whose they are.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Bears, Certified, ClientAuth, ClientMode, Fault, Identity, Listener,
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
const BEARS: [&str; 4] = ["san", "subject", "fingerprint", "any"];

/// What `tls` says of clients' certificates.
pub(super) fn read(section: &Section<'_>) -> Option<ClientAuth> {
    let mode = section.one_of("client_auth", &MODES).flatten();
    let passes = mode == Some(ClientMode::PassThrough);
    if !section.has("client_auth") || mode.is_none() || passes {
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

/// Where listeners trust different authorities, one of them could vouch for a name that
/// another's caller bears: each entry has to say on which listener it holds.
pub(super) fn trusts_differ(listeners: &[Listener], identity: &Identity, fault: impl FnOnce(Fault)) {
    let trusts = listeners.iter().filter_map(|listener| listener.tls.as_ref()?.client_auth.as_ref()?.trust.as_ref());
    let trusts: BTreeSet<_> = trusts.collect();
    let open = identity.certified.iter().find(|caller| caller.listener.is_none());
    if let Some(caller) = open.filter(|_| trusts.len() > 1) {
        let title =
            format!("listeners trust different authorities, and caller {} is known on all", quoted(&caller.name));
        fault(Fault::new(title, "say in each `[[identity.mtls]]` on which `listener` it holds"));
    }
}

fn one(section: &Section<'_>, classes: &Classes) -> Option<Certified> {
    section.require("name", "\"imaging\"");
    let name = section.string("name");
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
        return Some(Bears::Name(found.value));
    }
    if let Some(found) = subject {
        let attributes = attributes(&found.value);
        if attributes.is_none() {
            odd(&found, "write attributes as `CN=imaging, O=Clinic`; a comma in a value is written `\\,`");
        }
        return attributes.map(Bears::Subject);
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
