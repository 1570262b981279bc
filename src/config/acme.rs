//! `source = { acme = { … } }`: an authority that speaks ACME.

use super::{
    AcmeChallenge, AcmeSource, CertificateSource, ClientMode, Fault, Listener,
    document::{Found, Section},
    report::quoted,
};

const CHALLENGES: [(&str, AcmeChallenge); 2] =
    [("tls-alpn-01", AcmeChallenge::TlsAlpn01), ("http-01", AcmeChallenge::Http01)];
/// The most names of one certificate; Let's Encrypt's.
const MOST: usize = 100;

pub(super) fn read(section: &Section<'_>) -> Option<AcmeSource> {
    section.require("directory", "\"https://acme-v02.api.letsencrypt.org/directory\"");
    section.require("domains", "[\"files.example\"]");
    let directory = section.string("directory").filter(|found| {
        let good = found.value.starts_with("https://") && !found.value.contains('@');
        if !good {
            let help = "write the address of the authority's directory, such as \
                        `https://acme-v02.api.letsencrypt.org/directory`";
            section.fault(Fault::new("`directory` is no https address", help).at(&found.span, "this address"));
        }
        good
    });
    let contact = section.strings("contact").unwrap_or_default();
    let contact = contact.into_iter().map(|found| {
        let bare = !found.value.contains(':');
        if bare { format!("mailto:{}", found.value) } else { found.value }
    });
    let domains = domains(section);
    let challenge = section.one_of("challenge", &CHALLENGES).unwrap_or(AcmeChallenge::TlsAlpn01);
    let state = section.path_or("state", "acme");
    let root = section.path("root").map(|path| path.value);
    let contact = contact.collect();
    section.finish();
    Some(AcmeSource { directory: directory?.value, contact, domains: domains?, challenge, state, root })
}

fn domains(section: &Section<'_>) -> Option<Vec<String>> {
    let found = section.strings("domains")?;
    // What isn't fetched yet isn't missing.
    if found.is_empty() && !section.is_empty_list("domains") {
        return None;
    }
    if found.is_empty() || found.len() > MOST {
        let title = format!("`domains` has {} names", found.len());
        section.own_fault(Fault::new(title, "write 1 to 100 names"), "in this table");
        return None;
    }
    let all = found.len();
    let good: Vec<String> = found.into_iter().filter(|name| fits(section, name)).map(|name| name.value).collect();
    (good.len() == all).then_some(good)
}

fn fits(section: &Section<'_>, name: &Found<String>) -> bool {
    let label =
        |label: &str| (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let value = name.value.as_str();
    if value.len() <= 253 && value.contains('.') && value.split('.').all(label) {
        return true;
    }
    let help = if value.starts_with("*.") {
        "a wildcard takes a challenge by DNS, which isn't made here: list the names, or take the certificate from files"
    } else {
        "write a whole DNS name, such as `files.example`, letters of other alphabets in their `xn--` form"
    };
    section.fault(Fault::new(format!("{} can't be ordered", quoted(&name.raw)), help).at(&name.span, "this name"));
    false
}

/// Whether there is a listener that an authority can look at.
pub(super) fn can_be_answered(listeners: &[Listener], mut fault: impl FnMut(Fault)) {
    let wants = |challenge: AcmeChallenge| {
        let certificates =
            listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.certificates);
        certificates.into_iter().any(
            |certificate| matches!(&certificate.source, CertificateSource::Acme(acme) if acme.challenge == challenge),
        )
    };
    if wants(AcmeChallenge::Http01) && listeners.iter().all(|listener| listener.tls.is_some()) {
        let help = "add a `[[listener]]` without `tls`, on the address that port 80 leads to: `bind = \"0.0.0.0:80\"`";
        fault(Fault::new("`challenge = \"http-01\"` needs a listener without `tls`", help));
    }
    let open = |listener: &Listener| {
        let clients = listener.tls.as_ref().map(|tls| tls.client_auth.as_ref());
        clients.is_some_and(|clients| clients.is_none_or(|clients| clients.mode != ClientMode::Require))
    };
    if wants(AcmeChallenge::TlsAlpn01) && !listeners.iter().any(open) {
        let help =
            "an authority has no client certificate: write `challenge = \"http-01\"`, or `client_auth = \"request\"`";
        fault(Fault::new("`challenge = \"tls-alpn-01\"` can't be answered where clients need certificates", help));
    }
}
