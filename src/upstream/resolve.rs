//! Names of targets, looked up now and then: each address a name has is a target of its own.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use super::{Upstream, target::Place};
use crate::{config, secret::jittered};

/// Addresses of one name that are taken.
const MOST: usize = 64;

/// Where `target` is while its name hasn't been looked up, or for good where it has none.
pub(super) fn unresolved(target: &config::Target) -> Place {
    Place { https: target.https, authority: target.authority.clone(), of: target.authority.clone() }
}

/// Whether it has a name to be looked up.
pub(super) fn is_named(target: &config::Target) -> bool {
    target.authority.parse::<SocketAddr>().is_err()
}

/// Looks after the names of `upstream`. Never ends by itself.
pub(super) async fn watch(upstream: &Arc<Upstream>) {
    if !upstream.configured.iter().any(is_named) {
        return std::future::pending().await;
    }
    loop {
        let mut places = Vec::new();
        for target in &upstream.configured {
            match look_up(target).await {
                Ok(found) => places.extend(found.into_iter().map(|place| (place, target.weight))),
                Err(error) => {
                    // Those that were there go on: a resolver's bad moment takes no app away.
                    tracing::warn!(upstream = upstream.name, address = target.authority, "can't look it up: {error}");
                    places.extend(upstream.places_of(target).into_iter().map(|place| (place, target.weight)));
                }
            }
        }
        upstream.replace(places);
        tokio::time::sleep(jittered(upstream.resolve)).await;
    }
}

async fn look_up(target: &config::Target) -> Result<Vec<Place>, String> {
    if !is_named(target) {
        return Ok(vec![unresolved(target)]);
    }
    let found = tokio::net::lookup_host(&target.authority).await.map_err(|error| error.to_string())?;
    // In an order of its own, so that the same answer in another order is no change.
    let found: BTreeSet<SocketAddr> = found.take(MOST).collect();
    if found.is_empty() {
        return Err("it has no address".into());
    }
    let place = |address: SocketAddr| Place {
        https: target.https,
        authority: address.to_string(),
        of: target.authority.clone(),
    };
    Ok(found.into_iter().map(place).collect())
}
