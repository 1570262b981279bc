//! `check --online`: everything that the start of `serve` tries, and more, to the end
//! of it rather than to the first fault.

use std::{net::TcpListener, path::Path, sync::Arc};

use super::{Configuration, catalog, classes, listeners, secrets::Held};
use crate::{
    budget::Budget,
    config::{CertificateSource, Listener, Tokens},
    objects::{Bounds, Slots},
    proof::Proof,
    tls,
    upstream::{Connections, Upstream},
};

/// A certificate that ends sooner deserves a word; seconds.
const SOON: i64 = 14 * 24 * 3600;

/// Tries everything that `config` names, and serves nothing. Within a Tokio runtime.
pub async fn prove(configuration: Configuration) -> Vec<Proof> {
    let Configuration { config, mut held, .. } = configuration;
    let (config, metrics) = (&config, held.metrics.clone());
    let mut proofs = held.prove(config).await;
    for listener in &config.listeners {
        proofs.extend(self::listener(listener, &held).await);
    }
    let bounds = Bounds {
        budget: Budget::new(config.limits.buffer_memory),
        buffer_wait: config.limits.buffer_wait,
        max_part: config.limits.max_part,
        send_idle: config.limits.send_idle_timeout,
        min_rate: 0,
        uploads: Slots::new(config.limits.uploads),
    };
    let (found, catalog) = catalog::prove(config, &held).await;
    proofs.extend(found);
    match classes::build(config, &bounds, catalog.as_ref(), &metrics).await {
        Err(error) => proofs.push(Proof::fail("be reached", error.what).of(error.part)),
        Ok(built) => {
            for class in built {
                proofs.extend(class.proofs);
                let Some(objects) = class.objects else { continue };
                proofs.extend(objects.canary().await);
                proofs.extend(objects.prove_store().await);
                let (announced, unannounced) = (objects.largest_announced(), objects.largest_unannounced());
                let words = format!("{announced} bytes, and {unannounced} when the length isn't sent");
                proofs.push(Proof::ok("the largest object", words).of(format!("class `{}`", class.name)));
            }
        }
    }
    for upstream in &config.upstreams {
        let what = "have what its connections need";
        let proof = match Upstream::new(upstream, None, Connections::new(1), metrics.clone()) {
            Ok(_) => Proof::ok(what, format!("{} targets, none of them asked", upstream.targets.len())),
            Err(error) => Proof::fail(what, error),
        };
        proofs.push(proof.of(format!("upstream `{}`", upstream.name)));
    }
    if let Some(tokens) = &config.identity.tokens {
        let (what, place) = match tokens {
            Tokens::File(path) => ("the file of tokens", path.display().to_string()),
            Tokens::Catalog => ("the tokens", "in the catalogue".into()),
        };
        proofs.push(match catalog::tokens(config, catalog.as_ref()).await {
            Ok(_) => Proof::ok(what, place).of("identity"),
            Err(error) => Proof::fail(what, error.what).of("identity"),
        });
    }
    proofs
}

async fn listener(listener: &Listener, held: &Held) -> Vec<Proof> {
    let mut proofs = Vec::new();
    let of = format!("listener {}", listener.bind);
    let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
    for (at, config) in certificates.enumerate() {
        let place = format!("listener {}", listener.certificate(at));
        let (proof, proved) = certificate(&config.source, held).await;
        proofs.push(proof.of(&place));
        if let Some(path) = &config.ocsp {
            proofs.push(staple(path, proved.as_ref()).of(&place));
        }
    }
    if let Some(config) = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()) {
        let what = "know its clients' authorities";
        let proof = match tls::clients::open(listener.bind, config, held.metrics.clone()) {
            Ok(_) => Proof::ok(what, format!("{} revocation lists", config.revocation.len())),
            Err(untrusted) => Proof::fail(what, untrusted),
        };
        proofs.push(proof.of(&of));
    }
    if let Some(secret) = listener.tls.as_ref().and_then(|tls| tls.ticket_secret.as_ref()) {
        let what = "have its tickets' secret";
        proofs.push(match held.tickets(secret) {
            Ok(_) => Proof::ok(what, "").of(&of),
            Err(error) => Proof::fail(what, error.what).of(&of),
        });
    }
    // Any free port: the real one may be in use by the server that this
    // configuration is to replace.
    let address = match TcpListener::bind((listener.bind.ip(), 0)) {
        Ok(_) => Proof::ok("have its address", listener.bind.ip()),
        Err(error) => Proof::fail("have its address", format!("{}: {error}", listener.bind.ip())),
    };
    proofs.push(address.of(of));
    proofs
}

fn staple(path: &Path, proved: Option<&tls::prove::Proved>) -> Proof {
    let what = "have an OCSP response";
    match crate::replace::read(path, 64 << 10) {
        Err(error) => Proof::warn(what, format!("{}: {error}; handshakes go on without", path.display())),
        Ok(der) => match tls::staple::Staple::read(&der, tls::prove::now()) {
            Ok(staple) if proved.is_some_and(|proved| staple.is_of(proved)) => Proof::ok(what, path.display()),
            Ok(_) => Proof::warn(what, format!("{}: is of another certificate; fetch its own", path.display())),
            Err(why) => Proof::warn(what, format!("{}: {why}", path.display())),
        },
    }
}

async fn certificate(source: &CertificateSource, held: &Held) -> (Proof, Option<tls::prove::Proved>) {
    let what = "serve its certificate";
    let mut source = match listeners::source(source, held, &Arc::default()).await {
        Ok(source) => source,
        Err(error) => return (Proof::fail(what, error.what), None),
    };
    match tls::source::first(source.as_mut()).await {
        Err(refusal) => (Proof::fail(what, refusal), None),
        Ok(None) => {
            let words = "there is none yet: one is ordered once sealward serves, and handshakes fail until then";
            (Proof::warn(what, words), None)
        }
        Ok(Some(proved)) => {
            let names = proved.names.join(", ");
            let words = format!("for {names} until {}", tls::prove::date(proved.not_after));
            let unlinked = proved.warnings.first().map(|tls::prove::Warning::Unlinked(at)| {
                format!("{words}; certificate {at} of the chain wasn't issued by the next: put the chain in order")
            });
            let proof = match unlinked {
                Some(words) => Proof::warn(what, words),
                None if proved.not_after - tls::prove::now() < SOON => {
                    Proof::warn(what, format!("{words}, which is soon: renew it"))
                }
                None => Proof::ok(what, words),
            };
            (proof, Some(proved))
        }
    }
}
