//! `tls` of a listener: its certificates and what its handshakes take.

use std::time::Duration;

use super::{
    Certificate, CertificateSource, Fault, Secret, TicketSecret, Tls, TlsPolicy, clients,
    document::{Found, Section},
    report::listed,
};

const TICK: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a certificate may come from.
const SOURCES: [&str; 4] = ["files", "acm", "acme", "secret"];

/// Names of policies whose versions and suites can be honoured. (The extended master secret
/// is asked for besides: docs/tls.md.)
const POLICIES: &[(&str, TlsPolicy)] = &[
    ("tls13", TlsPolicy::Tls13),
    ("tls12", TlsPolicy::Tls12),
    ("ELBSecurityPolicy-TLS13-1-3-2021-06", TlsPolicy::Tls13),
    ("ELBSecurityPolicy-TLS13-1-3-PQ-2025-09", TlsPolicy::Tls13),
    ("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", TlsPolicy::Tls12Gcm),
    ("ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09", TlsPolicy::Tls12Gcm),
];

/// One table, or a list of them: one for each certificate.
pub(super) fn read(tables: Vec<Section<'_>>) -> Option<Tls> {
    let mut tables = tables.into_iter();
    let first = tables.next()?;
    let policy = policy(&first);
    let ticket_secret = if first.is_reference("ticket_secret") {
        first.reference("ticket_secret").map(TicketSecret::Secret)
    } else {
        first.path("ticket_secret").map(|path| TicketSecret::File(path.value))
    };
    let client_auth = clients::read(&first);
    if client_auth.is_some() {
        let title = "no session is resumed where clients have certificates: a ticket would outlive a revocation";
        first.refuse("ticket_secret", title, "leave `ticket_secret` out");
    }
    let mut certificates = vec![certificate(&first)];
    first.finish();
    for further in tables {
        for key in ["policy", "ticket_secret", "client_auth"] {
            let title = format!("`{key}` holds for the whole listener");
            further.refuse(key, &title, "write it in the first table of `tls` alone");
        }
        certificates.push(certificate(&further));
        further.finish();
    }
    Some(Tls { certificates: certificates.into_iter().collect::<Option<_>>()?, ticket_secret, client_auth, policy })
}

fn policy(section: &Section<'_>) -> TlsPolicy {
    let refused = section.string("policy").filter(|found| !POLICIES.iter().any(|(name, _)| *name == found.value));
    if let Some(found) = refused.filter(|found| found.value.starts_with("ELBSecurityPolicy-")) {
        let title = format!("the load balancer's policy `{}` can't be honoured here", found.raw);
        section.fault(Fault::new(title, mend(&found.value)).at(&found.span, "this policy"));
        return TlsPolicy::Tls13;
    }
    section.one_of("policy", POLICIES).unwrap_or(TlsPolicy::Tls13)
}

/// What of a load balancer's policy there is no way to do, and what comes nearest.
fn mend(name: &str) -> String {
    let (what, nearest) = if name.contains("FIPS") {
        ("it promises a validated FIPS module, which this build isn't", "leave the promise out")
    } else if name.contains("TLS13-1-0") || name.contains("TLS13-1-1") || !name.contains("TLS13") {
        (
            "it takes versions before TLS 1.2, or suites without forward secrecy or AEAD",
            "clients that need them are lost",
        )
    } else if name.contains("TLS13-1-2") {
        ("it takes CBC or RSA key exchange suites, which are not here", "clients without AES-GCM are lost")
    } else {
        ("it isn't known", "look for its name")
    };
    let instead = if name.contains("TLS13-1-3") { "TLS13-1-3-2021-06" } else { "TLS13-1-2-Res-2021-06" };
    format!("{what}: write `ELBSecurityPolicy-{instead}`, its nearest; {nearest}")
}

fn certificate(section: &Section<'_>) -> Option<Certificate> {
    let ocsp = section.path("ocsp").map(|path| path.value);
    Some(Certificate { source: source_of(section)?, ocsp })
}

fn source_of(section: &Section<'_>) -> Option<CertificateSource> {
    section.require("source", "{ files = { cert = \"cert.pem\", key = \"key.pem\" } }");
    let source = section.section("source")?;
    let files = source.section("files").and_then(|files| certificate_files(&files));
    let acm = source.section("acm").and_then(|acm| certificate_of_acm(&acm));
    let acme = source.section("acme").and_then(|acme| super::acme::read(&acme)).map(CertificateSource::Acme);
    let secret = certificate_of_secret(&source);
    source.finish();
    let written = SOURCES.iter().filter(|key| source.has(key)).count();
    if written > 1 {
        let fault = Fault::new("a certificate has one source", format!("leave all but one of {} out", listed(SOURCES)));
        source.own_fault(fault, "more than one is named here");
        return None;
    }
    if written == 0 {
        source.require("files", "{ cert = \"cert.pem\", key = \"key.pem\" }");
    }
    files.or(acm).or(acme).or(secret)
}

/// `secret = { name = "…" }`, or the name alone.
fn certificate_of_secret(source: &Section<'_>) -> Option<CertificateSource> {
    let (name, fields) = if source.is_string("secret") {
        (source.string("secret"), None)
    } else {
        let section = source.section("secret")?;
        section.require("name", "\"edge-certificate\"");
        let name = section.string("name");
        let fields = (section.string("cert"), section.string("key"));
        for (there, key, example) in [(&fields.0, "key", "\"private_key\""), (&fields.1, "cert", "\"certificate\"")] {
            if there.is_some() {
                section.require(key, example);
            }
        }
        section.finish();
        (name, fields.0.zip(fields.1).map(|(cert, key)| (cert.value, key.value)))
    };
    let name = name?;
    // One that isn't defined is AWS Secrets Manager's own, unless it is a slip.
    if !source.is_defined(&name.value)
        && let Some(meant) = source.nearest_secret(&name.value)
    {
        let title = format!("there is no `[[secret]]` `{}`", name.raw);
        let help =
            format!("did you mean `{meant}`? One of AWS Secrets Manager with so near a name needs a `[[secret]]`");
        source.fault(Fault::new(title, help).at(&name.span, "not defined"));
        return None;
    }
    let name = name.value;
    source.define(Secret::of_manager(&name));
    Some(CertificateSource::Secret { name, fields })
}

fn certificate_of_acm(section: &Section<'_>) -> Option<CertificateSource> {
    section.require("arn", "\"arn:aws:acm:eu-west-1:111122223333:certificate/1234abcd-…\"");
    let arn = section.string("arn");
    let refresh = section.duration("refresh", Duration::from_secs(1)..=DAY).unwrap_or(Duration::from_secs(3 * 3600));
    section.finish();
    let arn = arn?;
    let parts: Vec<&str> = arn.value.split(':').collect();
    let [_, _, "acm", region, _, resource] = parts[..] else { return not_of_acm(section, &arn) };
    if region.is_empty() || !resource.starts_with("certificate/") {
        return not_of_acm(section, &arn);
    }
    Some(CertificateSource::Acm { region: region.to_owned(), arn: arn.value, refresh })
}

fn not_of_acm(section: &Section<'_>, arn: &Found<String>) -> Option<CertificateSource> {
    let help = "write `arn:aws:acm:REGION:ACCOUNT:certificate/ID`, as `aws acm list-certificates` shows it";
    section.fault(Fault::new("`arn` names no certificate of ACM", help).at(&arn.span, "this ARN"));
    None
}

fn certificate_files(section: &Section<'_>) -> Option<CertificateSource> {
    section.require("cert", "\"cert.pem\"");
    section.require("key", "\"key.pem\"");
    let cert = section.path("cert");
    let key = section.path("key");
    let refresh = section.duration("refresh", TICK..=DAY).unwrap_or(Duration::from_secs(10));
    section.finish();
    Some(CertificateSource::Files { cert: cert?.value, key: key?.value, refresh })
}
