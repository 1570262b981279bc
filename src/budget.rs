//! One budget for every part buffer, so that memory is bounded whatever the load.
//!
//! An upload reads only while it holds a buffer, and a download draws its frames
//! from the same budget. Who asks first is served first. A buffer gives its
//! share back when the last slice of it is dropped.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes to one unit of account: a semaphore counts at most 2^29 or so, bytes are more.
const UNIT: usize = 1024;

/// The memory all buffers share.
#[derive(Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: usize,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Self {
        Self { units: Arc::new(Semaphore::new(total / UNIT)), total: total / UNIT * UNIT }
    }

    /// Bytes in all.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes that are lent out now.
    pub fn in_use(&self) -> usize {
        self.total - self.units.available_permits() * UNIT
    }

    /// A buffer that holds `capacity` bytes; waits in line for it, first come first served.
    ///
    /// # Errors
    /// [`Exhausted`] when `wait` passes first, or when the whole budget is smaller.
    pub async fn buffer(&self, capacity: usize, wait: Duration) -> Result<Buffer, Exhausted> {
        let units = self.units_for(capacity)?;
        match tokio::time::timeout(wait, Arc::clone(&self.units).acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(Buffer::new(capacity, permit)),
            Ok(Err(_)) | Err(_) => Err(Exhausted),
        }
    }

    /// A buffer at once, or none.
    ///
    /// # Errors
    /// [`Exhausted`] when the budget has no room now.
    pub fn try_buffer(&self, capacity: usize) -> Result<Buffer, Exhausted> {
        let units = self.units_for(capacity)?;
        match Arc::clone(&self.units).try_acquire_many_owned(units) {
            Ok(permit) => Ok(Buffer::new(capacity, permit)),
            Err(_) => Err(Exhausted),
        }
    }

    fn units_for(&self, capacity: usize) -> Result<u32, Exhausted> {
        if capacity > self.total {
            return Err(Exhausted);
        }
        u32::try_from(capacity.div_ceil(UNIT).max(1)).map_err(|_| Exhausted)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("total", &self.total).field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

/// The budget had no room in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer budget has no room")
    }
}

impl std::error::Error for Exhausted {}

/// Bytes drawn from a [`Budget`]. Fill it as a `Vec`, up to its capacity.
pub struct Buffer {
    bytes: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl Buffer {
    fn new(capacity: usize, share: OwnedSemaphorePermit) -> Self {
        Self { bytes: Vec::with_capacity(capacity), _share: share }
    }

    /// Freezes the buffer; its share returns with the last slice.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A buffer holds plaintext for a while: its bytes are never printed.
        f.debug_struct("Buffer").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_returns_with_the_last_slice() {
        let budget = Budget::new(64 * UNIT);
        let mut buffer = budget.try_buffer(64 * UNIT).expect("an empty budget has room");
        buffer.extend_from_slice(b"abc");
        let bytes = buffer.into_bytes();
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert_eq!(budget.in_use(), 64 * UNIT);
        assert_eq!(budget.try_buffer(1).err(), Some(Exhausted));
        drop(slice);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_is_refused_at_once() {
        let budget = Budget::new(UNIT);
        let wait = Duration::from_secs(3600);
        assert_eq!(budget.buffer(UNIT + 1, wait).await.err(), Some(Exhausted));
    }
}
