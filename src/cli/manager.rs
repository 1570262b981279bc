//! What the service manager is told: systemd's `sd_notify`, where `NOTIFY_SOCKET` names one.

use std::time::Duration;

use sd_notify::NotifyState;

/// Serving; with a word for `systemctl status`.
pub(super) fn ready(words: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(words)]);
}

/// Told to stop; for as long as `most`.
pub(super) fn stopping(most: Duration) {
    // By hand: its own word for it ends at 71 minutes.
    let extended = format!("EXTEND_TIMEOUT_USEC={}", most.as_micros());
    tell(&[NotifyState::Stopping, NotifyState::Status("what is under way finishes"), NotifyState::Custom(&extended)]);
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
