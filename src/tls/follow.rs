//! Looks at files again and again, on threads that may block.

use std::time::Duration;

use tokio::sync::watch;

/// Somebody who follows files.
pub(super) trait Follower: Send + 'static {
    /// How often to look.
    fn every(&self) -> Duration;

    /// Looks, and publishes what is new.
    fn look(&mut self);

    /// What was told of is told again.
    fn forget(&mut self);
}

/// Has `follower` look now and then, and at once whenever `reload` changes. Never ends by
/// itself.
pub(super) async fn follow(mut follower: impl Follower, mut reload: watch::Receiver<u64>) {
    let mut reloads = true;
    loop {
        tokio::select! {
            () = tokio::time::sleep(follower.every()) => {}
            changed = reload.changed(), if reloads => {
                // Nobody is left to ask: the clock goes on alone.
                reloads = changed.is_ok();
                if !reloads {
                    continue;
                }
                follower.forget();
            }
        }
        let looked = tokio::task::spawn_blocking(move || {
            follower.look();
            follower
        });
        match looked.await {
            Ok(back) => follower = back,
            Err(error) => return tracing::error!(%error, "files of TLS are followed no more: restart"),
        }
    }
}
