//! Bytes as they came: many buffers that are one after the other.

use bytes::Bytes;

/// What is no longer than this is copied, rather than keep the whole buffer that it came in.
const SMALL: usize = 64 * 1024;

/// Pieces, each with where it ends in the whole.
#[derive(Clone, Default)]
pub(crate) struct Pieces(Vec<(usize, Bytes)>);

impl Pieces {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.push((self.length() + bytes.len(), bytes));
        }
    }

    pub(crate) fn append(&mut self, more: Self) {
        let before = self.length();
        self.0.extend(more.0.into_iter().map(|(end, bytes)| (before + end, bytes)));
    }

    /// Ends the taking: see [`SMALL`].
    pub(crate) fn settle(&mut self) {
        if self.length() <= SMALL {
            let mut own = Vec::with_capacity(self.length());
            for (_, bytes) in &self.0 {
                own.extend_from_slice(bytes);
            }
            self.0.clear();
            self.push(own.into());
        }
    }

    pub(crate) fn length(&self) -> usize {
        self.0.last().map_or(0, |(end, _)| *end)
    }

    /// The piece that has the byte `at`, by its number, and how far into it that is.
    pub(crate) fn find(&self, at: usize) -> (usize, usize) {
        let number = self.0.partition_point(|(end, _)| *end <= at);
        let begins = number.checked_sub(1).map_or(0, |before| self.0[before].0);
        (number, at - begins)
    }

    pub(crate) fn piece(&self, number: usize) -> &Bytes {
        &self.0[number].1
    }
}
