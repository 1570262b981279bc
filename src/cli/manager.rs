//! What the service manager is told: systemd's `sd_notify`, where `NOTIFY_SOCKET` names one.

use std::time::Duration;

use sd_notify::NotifyState;

/// Serving; with a word for `systemctl status`.
pub(super) fn ready(words: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(words)]);
}

/// Told to stop; for as long as `drain` at most.
pub(super) fn stopping(drain: Duration) {
    let microseconds = u32::try_from(drain.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("what is under way finishes"),
        NotifyState::ExtendTimeoutUsec(microseconds),
    ]);
}

/// Says twice in each `WatchdogSec=` that the runtime still runs; for ever.
pub(super) async fn watched() {
    let within = sd_notify::watchdog_enabled().filter(|within| !within.is_zero());
    let Some(within) = within else { return std::future::pending().await };
    let mut due = tokio::time::interval(within / 2);
    loop {
        due.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager (NOTIFY_SOCKET) can't be told");
    }
}
