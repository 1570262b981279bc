//! Serving: the log, the runtime, the signals.

use std::{path::Path, time::Duration};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

use super::{Failure, output};
use crate::{
    app::{App, Configuration},
    config::{Class, Config, Log, LogFormat},
    server::{Stop, drain},
};

/// How long what blocks may still take at the end.
const LET_GO: Duration = Duration::from_secs(2);

/// Serves what the configuration at `path` describes, until a signal.
pub(super) fn serve(path: &Path) -> Result<(), Failure> {
    ended(runtime()?, async {
        let mut signals = Signals::listen()?;
        let starting = async {
            let configuration = Configuration::read(path).await?;
            log(&configuration.config.log)?;
            Ok(App::build(configuration).await?)
        };
        let app = Box::pin(signals.unless_told(starting)).await?;
        tracing::info!(listeners = ?app.local_addrs(), admin = %app.admin_addr(), "serving");
        until_signal(app, signals).await
    })
}

/// Runs `work` to its end, and lets nothing that hangs keep the process.
pub(super) fn ended<T>(runtime: Runtime, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LET_GO);
    done
}

/// The configuration at `path`, with what it needs fetched.
pub(super) fn configuration(path: &Path) -> Result<Config, Failure> {
    Ok(runtime()?.block_on(Configuration::read(path))?.config)
}

/// The class called `name`.
pub(super) fn class(config: &Config, name: &str) -> Result<Class, Failure> {
    config.class(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = config.classes.iter().map(|class| class.name.as_str()).collect();
        Failure::input(format!("the configuration has no class `{name}`; it has: {}", names.join(", ")))
    })
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

/// The signals that are listened for.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on none of them ends the process by itself: before anything is waited for.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("signals can't be had: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// What `starting` comes to, unless we are told to stop before.
    pub(super) async fn unless_told<T>(
        &mut self,
        starting: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            started = starting => started,
            Some(()) = self.terminate.recv() => Err(Failure::new("told to stop before it served")),
            Some(()) = self.interrupt.recv() => Err(Failure::new("told to stop before it served")),
        }
    }
}

/// Serves until SIGTERM or SIGINT. The first drains, a second cuts; SIGHUP has the
/// certificates looked at at once.
pub(super) async fn until_signal(app: App, signals: Signals) -> Result<(), Failure> {
    let Signals { mut terminate, mut interrupt, mut hangup } = signals;
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
                tracing::info!("told to read again: certificates, secrets, clients' trust, and the configuration");
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
