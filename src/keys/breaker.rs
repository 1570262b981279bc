//! Keeps calls from a provider that is away, and lets one through now and then.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// How long it stays open before one call is let through.
const PAUSE: Duration = Duration::from_secs(5);

/// Counts only what says that the provider is away. What says something of one
/// key or one object, such as damaged ciphertext or denied access, never opens
/// it: one bad object must not stop the rest.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made now. The first after a pause is let through alone.
    pub(super) fn admits(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.open_until {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                state.open_until = Some(Instant::now() + PAUSE);
                true
            }
            None => true,
        }
    }

    /// Whether the last call came to no answer.
    pub(super) fn is_away(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failures > 0
    }

    /// The provider answered, whatever it said.
    pub(super) fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// The provider was away.
    pub(super) fn failed(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures += 1;
        if state.failures >= FAILURES {
            state.open_until = Some(Instant::now() + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absence_in_a_row_opens_it() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES - 1 {
            breaker.failed();
        }
        breaker.answered();
        for _ in 0..FAILURES - 1 {
            breaker.failed();
            assert!(breaker.admits());
        }
        breaker.failed();
        assert!(!breaker.admits());
        breaker.answered();
        assert!(breaker.admits());
    }
}
