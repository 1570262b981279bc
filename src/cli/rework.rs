//! `reencrypt`, `verify` and `adopt`: a whole class gone over.

use std::sync::Arc;

use indicatif::{HumanBytes, HumanDuration, ProgressBar};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{
    Failure,
    args::{AdoptArgs, ClassArgs, ReencryptArgs},
    output, progress, run,
};
use crate::{
    app::{self, Alone},
    config::{Class, Config},
    fault::Fault,
    proof::Proof,
    rework::{Counts, Rework, Settings, Tally},
};

/// Seals the class anew.
pub(super) fn reencrypt(args: &ReencryptArgs) -> Result<(), Failure> {
    let (config, class) = begin(&args.class)?;
    let dry = args.dry_run;
    let verb = if dry { "would be sealed anew" } else { "sealed anew" };
    run::runtime()?.block_on(async {
        let alone = Alone::build(&config, &class, args.to_key.as_deref()).await?;
        if !dry {
            proved(&alone).await?;
        }
        go(&config, &args.class, alone, verb, |rework| rework.reencrypt(dry)).await
    })
}

/// Reads all of the class.
pub(super) fn verify(args: &ClassArgs) -> Result<(), Failure> {
    let (config, class) = begin(args)?;
    run::runtime()?.block_on(async {
        let alone = Alone::build(&config, &class, None).await?;
        go(&config, args, alone, "whole", Rework::verify).await
    })
}

/// Takes plain objects into the class.
pub(super) fn adopt(args: &AdoptArgs) -> Result<(), Failure> {
    let (config, class) = begin(&args.class)?;
    run::runtime()?.block_on(async {
        let alone = Alone::build(&config, &class, None).await?;
        let origin = app::origin(&config, &class, &args.from).await?;
        proved(&alone).await?;
        go(&config, &args.class, alone, "adopted", |rework| rework.adopt(origin)).await
    })
}

fn begin(args: &ClassArgs) -> Result<(Config, Class), Failure> {
    let config = run::configuration(&args.config)?;
    run::log(&config.log)?;
    let class = run::class(&config, &args.class)?;
    Ok((config, class))
}

/// The canary shows a fault before any object does.
async fn proved(alone: &Alone) -> Result<(), Failure> {
    match alone.objects.canary().await.into_iter().find(Proof::failed) {
        Some(proof) => Err(Failure::new(format!("canary: {}: {}", proof.what, proof.words))),
        None => Ok(()),
    }
}

async fn go<V, F>(config: &Config, args: &ClassArgs, alone: Alone, verb: &str, work: V) -> Result<(), Failure>
where
    V: FnOnce(Arc<Rework>) -> F,
    F: Future<Output = Result<Tally, Fault>>,
{
    let bar = progress::spinner();
    let shown = bar.clone();
    let report = Arc::new(move |name: &str, why: &str| shown.suspend(|| output::say(&format!("{name}: {why}"))));
    let settings = Settings { jobs: args.jobs.into(), rate: args.rate, names: config.log.object_keys };
    let (stop, stopped) = watch::channel(false);
    let rework = Arc::new(Rework::new(alone.objects, alone.budget, settings, report, stopped));
    let counts = rework.counts();
    let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("signals can't be had: {error}")));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    drawn(&bar, &counts);
    let mut draw = tokio::time::interval(progress::PAUSE);
    let working = work(rework);
    tokio::pin!(working);
    let outcome = loop {
        tokio::select! {
            outcome = &mut working => break outcome,
            _ = draw.tick() => drawn(&bar, &counts),
            Some(()) = interrupt.recv() => told(&stop)?,
            Some(()) = terminate.recv() => told(&stop)?,
        }
    };
    bar.finish_and_clear();
    // Where the list broke off, what was done still was.
    let tally = counts.tally();
    let cut = *stop.borrow();
    let until = if cut { " until it was told to stop" } else { "" };
    output::say(&format!(
        "class {}: {} {verb}, {} skipped, {} failed, {} bytes{until}",
        args.class, tally.done, tally.skipped, tally.failed, tally.bytes
    ));
    outcome.map_err(|fault| Failure::new(format!("not all could be listed: {fault}")))?;
    match tally.failed {
        0 if cut => Err(Failure::new("told to stop: run it again to go on")),
        0 => Ok(()),
        1 => Err(Failure::new("one object failed")),
        failed => Err(Failure::new(format!("{failed} objects failed"))),
    }
}

/// The first time what is under way is finished, the second time it is not.
fn told(stop: &watch::Sender<bool>) -> Result<(), Failure> {
    if stop.send_replace(true) {
        return Err(Failure::new("told to stop again: what was under way is cut, and nothing of it is visible"));
    }
    tracing::info!("told to stop: what is under way is finished");
    Ok(())
}

fn drawn(bar: &ProgressBar, counts: &Counts) {
    let tally = counts.tally();
    let (moved, elapsed) = (counts.moved(), bar.elapsed());
    let rate = u128::from(moved) * 1000 / elapsed.as_millis().max(1);
    bar.set_message(format!(
        "{} done, {} skipped, {} failed, {} at {}/s, {}",
        tally.done,
        tally.skipped,
        tally.failed,
        HumanBytes(moved),
        HumanBytes(u64::try_from(rate).unwrap_or(u64::MAX)),
        HumanDuration(elapsed),
    ));
    bar.tick();
}
