//! One call in flight for each key, whoever asked first and whether they still wait.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use tracing::Instrument as _;

type Flights<K, V> = Arc<Mutex<HashMap<K, Shared<BoxFuture<'static, Option<V>>>>>>;

/// Calls that are under way, each in a task of its own, so that the end of one
/// waiter ends no call.
pub(super) struct SingleFlight<K, V> {
    flights: Flights<K, V>,
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self { flights: Arc::default() }
    }

    /// The outcome of the call for `key`: the one under way, or the one that
    /// `call` makes. `None` when the call's task came to no end.
    pub(super) async fn run<F>(&self, key: K, call: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let landing = Landing { flights: Arc::clone(&self.flights), key: key.clone() };
                    let call = call();
                    let task = async move {
                        let _landing = landing;
                        call.await
                    };
                    // In the trace of whoever asked first.
                    let task = tokio::spawn(task.in_current_span());
                    let flight = task.map(Result::ok).boxed().shared();
                    flights.insert(key, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }
}

/// Takes the flight off the board, however its task ends.
struct Landing<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
