//! Serving: the log, the runtime, the signals.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use super::{Failure, manager, output};
use crate::{
    app::{App, Configuration},
    collector::{self, Collector},
    config::{Class, Config, Log, LogFormat},
    server::{Passed, Stop, drain},
    trace,
};

/// How long what blocks may still take at the end.
const LET_GO: Duration = Duration::from_secs(2);

/// Serves what the configuration at `path` describes, until a signal.
pub(super) fn serve(path: &Path) -> Result<(), Failure> {
    // Before there are threads.
    let passed = Passed::from_environment().map_err(Failure::input)?;
    ended(runtime()?, async {
        let mut signals = Signals::listen()?;
        let starting = async {
            let configuration = Configuration::read(path).await?;
            let collector = traced_log(&configuration)?;
            Ok((App::build(configuration, passed).await?, collector))
        };
        let (app, collector) = Box::pin(signals.unless_told(starting)).await?;
        tracing::info!(listeners = ?app.local_addrs(), admin = %app.admin_addr(), "serving");
        let ended = until_signal(app, signals).await;
        if let Some(collector) = collector {
            collector.end().await;
        }
        ended
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
    built(&mut Builder::new_multi_thread())
}

/// A runtime of that kind.
pub(super) fn built(builder: &mut Builder) -> Result<Runtime, Failure> {
    builder.enable_all().build().map_err(|error| Failure::new(format!("the runtime doesn't start: {error}")))
}

/// Sends events to standard error, as `log` says.
pub(super) fn log(log: &Log) -> Result<(), Failure> {
    tracing_subscriber::registry().with(events(log)).with(filter(log)?).init();
    Ok(())
}

/// The same, and spans to a collector where one is configured.
fn traced_log(configuration: &Configuration) -> Result<Option<Collector>, Failure> {
    let Config { log, traces, .. } = &configuration.config;
    let Some(traces) = traces else {
        self::log(log)?;
        return Ok(None);
    };
    let collector = Collector::start(traces, configuration.metrics())
        .map_err(|words| Failure::new(format!("[traces]: {words}")))?;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(collector.tracer())
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // It would begin a span before its route is known, which is its name.
        .with_context_activation(false)
        .with_filter(Targets::new().with_target(trace::TARGET, LevelFilter::INFO));
    tracing_subscriber::registry().with(spans).with(events(log).with_filter(filter(log)?)).init();
    Ok(Some(collector))
}

/// What writes events, as `log` wants them.
fn events<S>(log: &Log) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => layer.with_ansi(output::colour()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// What of the events is wanted; spans of traces are never the log's.
fn filter(log: &Log) -> Result<EnvFilter, Failure> {
    let unreadable =
        |error: &dyn std::fmt::Display| Failure::input(format!("log.level `{}` can't be read: {error}", log.level));
    let spans = format!("{}=off", trace::TARGET).parse().map_err(|error| unreadable(&error))?;
    Ok(EnvFilter::try_new(&log.level).map_err(|error| unreadable(&error))?.add_directive(spans))
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
    let most = app.drain_timeout() + collector::END + LET_GO;
    manager::ready(&format!("serving at {}", listed(&app.local_addrs())));
    let (reload, reloads) = watch::channel(0_u64);
    let serving = app.run(stop, reloads);
    let watched = manager::watched();
    tokio::pin!(serving, watched);
    let drained = loop {
        tokio::select! {
            drained = &mut serving => break drained,
            Some(()) = terminate.recv() => told(&stopper, most),
            Some(()) = interrupt.recv() => told(&stopper, most),
            () = &mut watched => {}
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

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn told(stopper: &drain::Stopper, most: Duration) {
    manager::stopping(most);
    match stopper.advance() {
        Stop::Cut => tracing::warn!("told to stop again: what is under way is cut"),
        _ => tracing::info!("told to stop: what is under way may finish"),
    }
}
