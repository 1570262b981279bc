//! How serving ends: first no more connections, then no more requests, then nothing.

use std::sync::Arc;

use tokio::sync::watch;

/// How far the end has come. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Serving.
    #[default]
    Run,
    /// No new connections; requests under way go on, for `limits.drain_timeout` at most.
    Drain,
    /// Everything ends now.
    Cut,
}

/// What the end came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open when the time was up, and were cut.
    pub cut: usize,
}

/// Tells servers to stop. Dropped without a word, it means [`Stop::Drain`].
#[derive(Debug)]
pub struct Stopper(watch::Sender<Stop>);

/// A stopper, and what servers listen to; clone the receiver for each.
pub fn channel() -> (Stopper, watch::Receiver<Stop>) {
    let (sender, receiver) = watch::channel(Stop::Run);
    (Stopper(sender), receiver)
}

impl Stopper {
    /// One step on: the first call drains, the second cuts. For a signal handler.
    pub fn advance(&self) -> Stop {
        let mut now = Stop::Cut;
        self.0.send_modify(|stop| {
            *stop = if *stop == Stop::Run { Stop::Drain } else { Stop::Cut };
            now = *stop;
        });
        now
    }
}

/// Resolves once `stop` has come to `stage`. A sender that is gone has come to
/// [`Stop::Drain`], and never to [`Stop::Cut`].
pub async fn reached(stop: &mut watch::Receiver<Stop>, stage: Stop) {
    let gone = stop.wait_for(|now| *now >= stage).await.is_err();
    if gone && stage == Stop::Cut {
        std::future::pending::<()>().await;
    }
}

/// Counts what is open.
#[derive(Clone, Debug)]
pub(super) struct Tracker(Arc<watch::Sender<usize>>);

/// Counts as one open connection for as long as it lives.
#[derive(Debug)]
pub(super) struct Open(Tracker);

impl Tracker {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn open(&self) -> Open {
        self.0.send_modify(|count| *count += 1);
        Open(self.clone())
    }

    pub(super) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Resolves when nothing is open.
    pub(super) async fn none(&self) {
        // The sender is ours, so waiting can't fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await.map(drop);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn two_steps() {
        let (stopper, mut stop) = channel();
        assert!(reached(&mut stop, Stop::Drain).now_or_never().is_none());
        assert_eq!(stopper.advance(), Stop::Drain);
        reached(&mut stop, Stop::Drain).await;
        assert!(reached(&mut stop, Stop::Cut).now_or_never().is_none());
        assert_eq!(stopper.advance(), Stop::Cut);
        assert_eq!(stopper.advance(), Stop::Cut);
        reached(&mut stop, Stop::Cut).await;
    }

    #[tokio::test]
    async fn a_lost_stopper_drains() {
        let (stopper, mut stop) = channel();
        drop(stopper);
        reached(&mut stop, Stop::Drain).await;
        assert!(reached(&mut stop, Stop::Cut).now_or_never().is_none());
    }

    #[tokio::test]
    async fn counts_down_to_none() {
        let tracker = Tracker::new();
        tracker.none().await;
        let open = tracker.open();
        assert_eq!(tracker.count(), 1);
        assert!(tracker.none().now_or_never().is_none());
        drop(open);
        tracker.none().await;
    }
}
