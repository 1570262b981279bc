//! One budget for every part buffer, so that memory is bounded whatever the load.
//!
//! An upload reads only while it holds a buffer, and a download draws its frames
//! from the same budget. Who asks first is served first. A buffer gives its
//! share back when the last slice of it is dropped.
//!
//! Large buffers are kept for the next who asks, inside the budget: handed back to
//! an allocator each time, they leave holes in the heap of every thread, and the
//! process grows to a multiple of what it holds.

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes to one unit of account: a semaphore counts at most 2^29 or so, bytes are more.
const UNIT: usize = 1024;
/// Buffers from this size up, in bytes, are kept; and have one of a few sizes, so that
/// one that is kept fits the next.
const KEPT: usize = 256 << 10;

/// The memory all buffers share.
#[derive(Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: usize,
    kept: Arc<Mutex<Kept>>,
}

/// Buffers that nobody uses now.
#[derive(Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    /// The fewest there were since the last [`Budget::trim`].
    fewest: usize,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Self {
        Self { units: Arc::new(Semaphore::new(total / UNIT)), total: total / UNIT * UNIT, kept: Arc::default() }
    }

    /// Bytes in all.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes that are lent out now.
    pub fn in_use(&self) -> usize {
        self.total - self.units.available_permits() * UNIT
    }

    /// Bytes that are kept for the next who asks.
    pub fn unused(&self) -> usize {
        self.kept().bytes
    }

    /// A buffer that holds `capacity` bytes; waits in line for it, first come first served.
    ///
    /// # Errors
    /// [`Exhausted`] when `wait` passes first, or when the whole budget is smaller.
    pub async fn buffer(&self, capacity: usize, wait: Duration) -> Result<Buffer, Exhausted> {
        let (capacity, units) = self.sized(capacity)?;
        match tokio::time::timeout(wait, Arc::clone(&self.units).acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(self.lend(capacity, permit)),
            Ok(Err(_)) | Err(_) => Err(Exhausted),
        }
    }

    /// A buffer at once, or none.
    ///
    /// # Errors
    /// [`Exhausted`] when the budget has no room now.
    pub fn try_buffer(&self, capacity: usize) -> Result<Buffer, Exhausted> {
        let (capacity, units) = self.sized(capacity)?;
        match Arc::clone(&self.units).try_acquire_many_owned(units) {
            Ok(permit) => Ok(self.lend(capacity, permit)),
            Err(_) => Err(Exhausted),
        }
    }

    /// Lets go of the buffers that nobody needed since the last call.
    pub fn trim(&self) {
        let mut kept = self.kept();
        let idle = kept.fewest;
        // The oldest lie in front.
        for buffer in kept.buffers.drain(..idle).collect::<Vec<_>>() {
            kept.bytes -= buffer.capacity();
        }
        kept.fewest = kept.buffers.len();
    }

    /// What a buffer of `capacity` bytes has in the end, and its units.
    fn sized(&self, capacity: usize) -> Result<(usize, u32), Exhausted> {
        if capacity > self.total {
            return Err(Exhausted);
        }
        let capacity = rounded(capacity).min(self.total);
        let units = u32::try_from(capacity.div_ceil(UNIT).max(1)).map_err(|_| Exhausted)?;
        Ok((capacity, units))
    }

    /// A kept buffer of that very size, or a new one in place of kept ones of others.
    fn lend(&self, capacity: usize, share: OwnedSemaphorePermit) -> Buffer {
        let mut unfit = Vec::new();
        let bytes = {
            let mut kept = self.kept();
            let found = kept.buffers.iter().rposition(|buffer| buffer.capacity() == capacity);
            if let Some(found) = found {
                let buffer = kept.buffers.remove(found);
                kept.bytes -= buffer.capacity();
                kept.fewest = kept.fewest.min(kept.buffers.len());
                Some(buffer)
            } else {
                while kept.bytes + self.in_use() > self.total && !kept.buffers.is_empty() {
                    let buffer = kept.buffers.remove(0);
                    kept.bytes -= buffer.capacity();
                    unfit.push(buffer);
                }
                kept.fewest = kept.fewest.min(kept.buffers.len());
                None
            }
        };
        drop(unfit);
        let bytes = bytes.unwrap_or_else(|| Vec::with_capacity(capacity));
        Buffer { bytes, kept: Arc::clone(&self.kept), _share: share }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("total", &self.total).field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

/// `capacity`, or from [`KEPT`] up the next of 1, 1 1/2, 2, 3, 4, 6, ... times that; and
/// a 64th besides, for the headers and tags of what is a round size in plaintext.
fn rounded(capacity: usize) -> usize {
    if capacity < KEPT {
        return capacity;
    }
    let with_slack = |size: usize| size + size / 64;
    let mut size = KEPT;
    while with_slack(size) < capacity {
        if with_slack(size + size / 2) >= capacity {
            return with_slack(size + size / 2);
        }
        size *= 2;
    }
    with_slack(size)
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
    kept: Arc<Mutex<Kept>>,
    /// Goes back after the bytes have.
    _share: OwnedSemaphorePermit,
}

impl Buffer {
    /// Freezes the buffer; its share returns with the last slice.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = mem::take(&mut self.bytes);
        // One that had to grow isn't of a size that anybody asks for.
        if bytes.capacity() >= KEPT && bytes.capacity() == rounded(bytes.capacity()) {
            bytes.clear();
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.bytes += bytes.capacity();
            kept.buffers.push(bytes);
        }
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

    #[test]
    fn sizes_are_few_and_little_is_lost() {
        const MIB: usize = 1 << 20;
        assert_eq!(rounded(KEPT - 1), KEPT - 1);
        for (capacity, expected) in [
            (KEPT, KEPT + KEPT / 64),
            (MIB + 4 * 32 + 900, MIB + MIB / 64),
            (MIB + MIB / 64 + 1, MIB + MIB / 2 + 3 * MIB / 128),
            (8 * MIB + 32 * 32 + 900, 8 * MIB + MIB / 8),
        ] {
            assert_eq!(rounded(capacity), expected);
            assert_eq!(rounded(expected), expected, "a size is its own");
        }
        for capacity in (KEPT..70 * MIB).step_by(99_991) {
            let size = rounded(capacity);
            assert!(size >= capacity && size <= capacity + capacity / 2 + capacity / 32, "{capacity}: {size}");
        }
    }

    #[test]
    fn what_is_given_back_is_used_again_and_never_beyond_the_budget() {
        const MIB: usize = 1 << 20;
        let budget = Budget::new(4 * rounded(MIB) + UNIT);
        let mut first = budget.try_buffer(MIB).expect("has room");
        first.extend_from_slice(b"what was here before");
        let place = first.as_ptr();
        drop(first);
        let again = budget.try_buffer(MIB + 100).expect("has room");
        assert!(again.as_ptr() == place && again.is_empty());
        let all: Vec<_> = (0..3).map(|_| budget.try_buffer(MIB).expect("has room")).collect();
        assert!(budget.try_buffer(MIB).is_err());
        drop((again, all));
        assert_eq!((budget.in_use(), budget.kept().bytes), (0, 4 * rounded(MIB)));
        // One of another size takes the place of kept ones.
        let other = budget.try_buffer(2 * MIB).expect("has room");
        assert!(budget.kept().bytes + budget.in_use() <= budget.total());
        drop(other);
        // Two trims: what nobody needed between them goes.
        budget.trim();
        let needed = budget.try_buffer(2 * MIB).expect("has room");
        drop(needed);
        budget.trim();
        assert_eq!(budget.kept().buffers.len(), 1);
        budget.trim();
        assert_eq!(budget.kept().bytes, 0);
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_is_refused_at_once() {
        let budget = Budget::new(UNIT);
        let wait = Duration::from_secs(3600);
        assert_eq!(budget.buffer(UNIT + 1, wait).await.err(), Some(Exhausted));
    }
}
