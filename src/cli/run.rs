//! Serving: the log, the runtime, the signals.

use std::path::Path;

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

use super::{Failure, output};
use crate::{
    app::{App, Configuration},
    config::{Config, Log, LogFormat},
    server::{Stop, drain},
};

/// Serves what the configuration at `path` describes, until a signal.
pub(super) fn serve(path: &Path) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let configuration = Configuration::read(path).await?;
        log(&configuration.config.log)?;
        let app = App::build(configuration).await?;
        tracing::info!(listeners = ?app.local_addrs(), admin = %app.admin_addr(), "serving");
        until_signal(app).await
    })
}

/// The configuration at `path`, with what it needs fetched.
pub(super) fn configuration(path: &Path) -> Result<Config, Failure> {
    Ok(runtime()?.block_on(Configuration::read(path))?.config)
}

/// The one runtime of the process.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the runtime doesn't start: {error}")))
}

/// Sends events to standard error, as `log` says.
pub(super) fn log(log: &Log) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&log.level)
        .map_err(|error| Failure::input(format!("log.level `{}` can't be read: {error}", log.level)))?;
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => events.with_ansi(output::colour()).init(),
        LogFormat::Json => events.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Serves until SIGTERM or SIGINT. The first drains, a second cuts; SIGHUP has the
/// certificates looked at at once.
pub(super) async fn until_signal(app: App) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("signals can't be had: {error}")));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let (stopper, stop) = drain::channel();
    let (reload, reloads) = watch::channel(0_u64);
    let serving = app.run(stop, reloads);
    tokio::pin!(serving);
    let drained = loop {
        tokio::select! {
            drained = &mut serving => break drained,
            Some(()) = terminate.recv() => told(&stopper),
            Some(()) = interrupt.recv() => told(&stopper),
            Some(()) = hangup.recv() => {
                tracing::info!("certificates are read again; all else is read at start alone, and needs a restart");
                reload.send_modify(|count| *count += 1);
            }
        }
    };
    if drained.cut > 0 {
        tracing::warn!(connections = drained.cut, "connections were cut at the end of the drain");
    }
    tracing::info!("stopped");
    Ok(())
}

fn told(stopper: &drain::Stopper) {
    match stopper.advance() {
        Stop::Cut => tracing::warn!("told to stop again: what is under way is cut"),
        _ => tracing::info!("told to stop: what is under way may finish"),
    }
}
