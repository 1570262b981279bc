//! The examples that the documentation points to: every key is in them, and their defaults are true.

use std::{collections::BTreeSet, path::Path};

use toml::de::{DeTable, DeValue};

use super::*;

/// The same for AWS: what differs there.
const AWS_EXAMPLE: &str = include_str!("../../../config/sealward-aws.toml");

const APPS_EXAMPLE: &str = include_str!("../../../config/sealward-apps.toml");

const CERTIFICATES_EXAMPLE: &str = include_str!("../../../config/sealward-certificates.toml");

fn keys_of(table: &DeTable<'_>, path: &str, into: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        match value.get_ref() {
            // A value that comes out of a secret.
            DeValue::Table(below)
                if path != "catalog" && below.get("secret").is_some_and(|name| name.get_ref().is_str()) => {}
            // Names in these are the writer's own.
            DeValue::Table(_)
                if ["route.headers", "route.query", "traces.headers"].contains(&path.as_str())
                    || path.starts_with("route.forward.re")
                        && matches!(path.rsplit('.').next(), Some("set" | "add")) => {}
            DeValue::Table(below) => keys_of(below, &path, into),
            DeValue::Array(list) => {
                list.iter().filter_map(|entry| entry.get_ref().as_table()).for_each(|t| keys_of(t, &path, into));
            }
            _ => {}
        }
        into.insert(path);
    }
}

#[test]
fn the_examples_are_read() {
    Config::parse(EXAMPLE, "config/sealward.toml", Path::new("config")).unwrap();
    Config::parse(AWS_EXAMPLE, "config/sealward-aws.toml", Path::new("config")).unwrap();
}

/// The keys written in `text`.
fn written(text: &str) -> BTreeSet<String> {
    let mut written = BTreeSet::new();
    keys_of(&read::table(text).unwrap(), "", &mut written);
    written
}

#[test]
fn the_examples_name_every_key_and_their_defaults_are_true() {
    let whole = uncommented(EXAMPLE);
    let config = parse(&whole).unwrap();
    let mut known = read::known_keys(&whole);
    // Other sources of a certificate, and secrets: the other examples have them.
    known.retain(|key| {
        let certificates = ["client_auth", "ocsp", "source.acm", "source.acme", "source.secret"];
        let elsewhere = key.strip_prefix("listener.tls.").is_some_and(|key| certificates.contains(&key));
        // And what stands in front of apps.
        let routes = [
            "compress", "forward", "headers", "methods", "priority", "query", "quotas", "redirect", "respond",
            "sources",
        ];
        let apps = key.strip_prefix("route.").is_some_and(|key| routes.contains(&key));
        !elsewhere && !apps && !["identity.mtls", "log.access", "quota", "secret", "upstream"].contains(&key.as_str())
    });
    assert_eq!(written(&whole), known, "those of a keyring and a folder");

    // What stands commented out is the default, but for what says that it is an example.
    let plain = parse(EXAMPLE).unwrap();
    let drop_examples = |mut config: Config| {
        config.traces = None;
        config.classes[0].write_key = None;
        config.classes[0].read_keys = None;
        config.routes[0].matching.host = None;
        config.listeners[0].balancers = None;
        config.listeners[0].tls.as_mut().unwrap().ticket_secret = None;
        format!("{config:#?}")
    };
    assert_eq!(drop_examples(config), drop_examples(plain));

    let aws = uncommented(AWS_EXAMPLE);
    let config = parse(&aws).unwrap();
    // `write_key` is asked for under KMS too, to say that it has no place there.
    let certificates = uncommented(CERTIFICATES_EXAMPLE);
    let apps = uncommented(APPS_EXAMPLE);
    let all = [&aws, &whole, &certificates, &apps];
    let known: BTreeSet<_> = all.iter().flat_map(|text| read::known_keys(text)).collect();
    let all: BTreeSet<_> = all.iter().flat_map(|text| written(text)).collect();
    assert_eq!(all, known, "the examples together");
    let plain = parse(AWS_EXAMPLE).unwrap();
    let drop_examples = |mut config: Config| {
        let keys = config.keys.as_mut().unwrap();
        let KeyProvider::Kms { region, endpoint, .. } = &mut keys.provider else { panic!("not KMS") };
        (*region, *endpoint) = (None, None);
        config.secrets.iter_mut().for_each(|secret| secret.region = None);
        format!("{config:#?}")
    };
    assert_eq!(drop_examples(config), drop_examples(plain));

    let config = parse(&certificates).unwrap();
    let drop_examples = |mut config: Config| {
        for route in &mut config.routes {
            let matching = &mut route.matching;
            (matching.host, matching.priority) = (None, None);
            (matching.methods, matching.headers, matching.query, matching.sources) = (vec![], vec![], vec![], vec![]);
            if let Action::Forward(forward) = &mut route.action {
                (forward.rewrite, forward.host, forward.rewrite_host) = (None, None, None);
                (forward.request, forward.response) = (HeaderEdits::default(), HeaderEdits::default());
                forward.sticky.iter_mut().for_each(|sticky| sticky.key = None);
            }
        }
        for upstream in &mut config.upstreams {
            upstream.tls = UpstreamTls::default();
            upstream.sticky.iter_mut().for_each(|sticky| sticky.key = None);
        }
        for quota in &mut config.quotas {
            (quota.concurrent, quota.bytes, quota.burst_bytes) = (None, None, None);
        }
        format!("{config:#?}")
    };
    assert_eq!(drop_examples(parse(&apps).unwrap()), drop_examples(parse(APPS_EXAMPLE).unwrap()));

    let plain = parse(CERTIFICATES_EXAMPLE).unwrap();
    let drop_examples = |mut config: Config| {
        config.secrets.iter_mut().for_each(|secret| secret.region = None);
        for caller in &mut config.identity.certified {
            (caller.listener, caller.classes, caller.actions) = (None, BTreeSet::new(), BTreeSet::new());
        }
        config.listeners.iter_mut().for_each(|listener| {
            let Some(tls) = &mut listener.tls else { return };
            if let Some(clients) = &mut tls.client_auth {
                clients.revocation = vec![];
            }
            tls.certificates.iter_mut().for_each(|certificate| {
                certificate.ocsp = None;
                if let CertificateSource::Acme(acme) = &mut certificate.source {
                    (acme.root, acme.contact) = (None, vec![]);
                }
                if let CertificateSource::Secret { fields, .. } = &mut certificate.source {
                    *fields = None;
                }
            });
        });
        format!("{config:#?}")
    };
    assert_eq!(drop_examples(config), drop_examples(plain));
}
