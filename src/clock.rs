//! A deadline that moves: one timer for all the times that something was due.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// Sleeps until what is due, and lets a later time come by itself: moving a timer costs more than a look.
#[derive(Debug)]
pub struct Clock {
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(Duration::ZERO)), armed: None }
    }
}

impl Clock {
    /// Ready once `at` has come, which each call may say anew.
    pub fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        loop {
            if self.armed.is_none_or(|armed| at < armed) {
                if at <= Instant::now() {
                    return Poll::Ready(());
                }
                self.sleep.as_mut().reset(at);
                self.armed = Some(at);
            }
            ready!(self.sleep.as_mut().poll(cx));
            self.armed = None;
        }
    }
}
