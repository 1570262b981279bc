//! Bytes a second: what passed is taken off when it passes, below nothing if need be, and
//! who is below nothing waits. A body under way is never slowed down or cut for it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Client;

#[derive(Debug)]
pub(super) struct Bytes {
    /// Given back each second.
    rate: u64,
    /// The most that is saved.
    most: u64,
    spent: Mutex<HashMap<Client, Spent>>,
}

/// What was spent, as of then; 0 is none.
#[derive(Clone, Copy, Debug)]
struct Spent {
    bytes: u64,
    then: Instant,
}

impl Bytes {
    pub(super) fn new(rate: u64, most: u64) -> Self {
        Self { rate: rate.max(1), most: most.max(1), spent: Mutex::default() }
    }

    /// How long `client` has to wait, if it has.
    pub(super) fn wait(&self, client: &Client) -> Option<Duration> {
        let spent = *self.spent.lock().unwrap_or_else(PoisonError::into_inner).get(client)?;
        let over = self.now(spent).checked_sub(self.most)?;
        // What is just spent to the end waits a moment too.
        Some(Duration::from_secs(over.div_ceil(self.rate).max(1)))
    }

    pub(super) fn spend(&self, client: &Client, bytes: u64) {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let then = Instant::now();
        match all.get_mut(client) {
            Some(spent) => *spent = Spent { bytes: self.now(*spent).saturating_add(bytes), then },
            None => drop(all.insert(client.clone(), Spent { bytes, then })),
        }
    }

    /// Forgets who has all again; how many are left.
    pub(super) fn tidy(&self) -> usize {
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, spent| self.now(*spent) > 0);
        all.len()
    }

    fn now(&self, spent: Spent) -> u64 {
        let back = u128::from(self.rate) * spent.then.elapsed().as_millis() / 1000;
        spent.bytes.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX))
    }
}
