//! Active checks: each target is asked now and then whether it is well.

use std::{collections::HashMap, sync::Arc};

use http::Request;
use http_body_util::BodyExt as _;
use tokio::task::{AbortHandle, JoinSet};

use super::{
    Failure, InFlight, Upstream,
    sent::{Activity, Lender},
    target::Target,
};
use crate::{config::Health, secret::jittered};

/// As much of a check's answer is read, so that its connection can be used again; bytes.
const READ: usize = 64 << 10;

/// Looks after every target of `upstream`, as they come and go. Never ends by itself.
pub(super) async fn watch(upstream: &Arc<Upstream>) {
    let Some(health) = &upstream.health else { return std::future::pending().await };
    let mut changed = upstream.changed.subscribe();
    let mut checks = JoinSet::new();
    let mut checked: HashMap<String, AbortHandle> = HashMap::new();
    loop {
        changed.borrow_and_update();
        let targets = upstream.targets.load_full();
        checked.retain(|name, check| {
            let there = targets.iter().any(|target| target.name() == name);
            if !there {
                check.abort();
            }
            there
        });
        for target in targets.iter() {
            checked
                .entry(target.name().to_owned())
                .or_insert_with(|| checks.spawn(look_after(Arc::clone(upstream), Arc::clone(target), health.clone())));
        }
        while checks.try_join_next().is_some() {}
        // The upstream itself has the sender.
        if changed.changed().await.is_err() {
            return;
        }
    }
}

async fn look_after(upstream: Arc<Upstream>, target: Arc<Target>, health: Health) {
    let (mut well, mut unwell) = (0_u32, 0_u32);
    loop {
        let found = tokio::time::timeout(health.timeout, check(&upstream, &target, &health)).await;
        let found = found.unwrap_or_else(|_| Err(Unwell::because("no answer in time")));
        match &found {
            Ok(()) => (well, unwell) = (well.saturating_add(1), 0),
            Err(Unwell::Unknown) => {}
            Err(Unwell::Because(_)) => (well, unwell) = (0, unwell.saturating_add(1)),
        }
        let (name, at) = (upstream.name.as_str(), target.name());
        if unwell >= health.unhealthy && target.found(false) {
            let why = match found {
                Err(Unwell::Because(why)) => why,
                _ => String::new(),
            };
            tracing::warn!(upstream = name, address = at, "a target is unwell and gets no requests: {why}");
            upstream.metrics.upstream_healthy.with_label_values(&[name, at]).set(0);
        } else if well >= health.healthy && target.found(true) {
            tracing::info!(upstream = name, address = at, "a target is well again");
            upstream.metrics.upstream_healthy.with_label_values(&[name, at]).set(1);
        }
        tokio::time::sleep(jittered(health.interval)).await;
    }
}

/// Why a check came to nothing good.
enum Unwell {
    /// For lack of something here: it says nothing of the target.
    Unknown,
    Because(String),
}

impl Unwell {
    fn because(why: impl ToString) -> Self {
        Self::Because(why.to_string())
    }
}

async fn check(upstream: &Upstream, target: &Arc<Target>, health: &Health) -> Result<(), Unwell> {
    let request =
        Request::get(&health.path).header("host", target.place().of.as_str()).header("user-agent", "sealward");
    let (head, body) = request.body(http_body_util::Empty::new()).map_err(Unwell::because)?.into_parts();
    let (lender, activity) = (Lender::new(body, 0), Activity::new());
    let in_flight = InFlight::new(Arc::clone(target), upstream.checks.clone());
    let answer = upstream.exchange(&head, target, &lender, &activity, in_flight).await;
    let answer = answer.map_err(|failure| match failure {
        // Who refuses one request, or says goodbye, is there.
        Failure::Ours(_) | Failure::Refused { .. } => Unwell::Unknown,
        failure => Unwell::because(failure),
    })?;
    let status = answer.status().as_u16();
    // Read to its end, so that the connection goes back to the pool.
    let _ = http_body_util::Limited::new(answer.into_body(), READ).collect().await;
    let good = health.codes.iter().any(|(from, to)| (*from..=*to).contains(&status));
    if good { Ok(()) } else { Err(Unwell::because(format!("it answered {status}"))) }
}
