//! Requests at once.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::Client;

/// Bounded by itself: who has nothing under way isn't in it.
#[derive(Debug)]
pub(super) struct UnderWay {
    most: u32,
    counts: Mutex<HashMap<Client, u32>>,
}

impl UnderWay {
    pub(super) fn new(most: u32) -> Self {
        Self { most, counts: Mutex::default() }
    }

    /// Counts one more, if it may be.
    pub(super) fn begin(&self, client: &Client) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client.clone()).or_default();
        let may = *count < self.most;
        if may {
            *count += 1;
        }
        may
    }

    pub(super) fn end(&self, client: &Client) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(client);
            }
        }
    }
}
