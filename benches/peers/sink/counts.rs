//! How often was asked for what, and how many bytes went.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

/// The calls to KMS that there are.
pub(crate) const OPERATIONS: [&str; 4] = ["Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey"];

/// One count.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }
}

/// All of them, since the start or the last reset.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) puts: Count,
    pub(crate) put_bytes: Count,
    pub(crate) parts: Count,
    pub(crate) part_bytes: Count,
    pub(crate) completed: Count,
    pub(crate) gets: Count,
    /// As they are handed to the connection.
    pub(crate) get_bytes: Count,
    /// Answers of 400 and above that nobody asks for, and bodies that ended early.
    pub(crate) failed: Count,
    /// In the order of [`OPERATIONS`].
    pub(crate) kms: [Count; OPERATIONS.len()],
}

impl Counts {
    /// By name, and those of KMS below `kms`.
    pub(crate) fn told(&self) -> Map<String, Value> {
        let mut told = named(self.own());
        told.insert("kms".into(), named(OPERATIONS.into_iter().zip(&self.kms)).into());
        told
    }

    pub(crate) fn reset(&self) {
        for (_, count) in self.own() {
            count.0.store(0, Ordering::Relaxed);
        }
        for count in &self.kms {
            count.0.store(0, Ordering::Relaxed);
        }
    }

    fn own(&self) -> [(&'static str, &Count); 8] {
        [
            ("puts", &self.puts),
            ("put_bytes", &self.put_bytes),
            ("parts", &self.parts),
            ("part_bytes", &self.part_bytes),
            ("completed", &self.completed),
            ("gets", &self.gets),
            ("get_bytes", &self.get_bytes),
            ("failed", &self.failed),
        ]
    }
}

fn named<'a>(counts: impl IntoIterator<Item = (&'static str, &'a Count)>) -> Map<String, Value> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count.0.load(Ordering::Relaxed).into())).collect()
}
