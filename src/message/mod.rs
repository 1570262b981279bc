//! The sealed format (placeholder while the rooms are raised).
/// A message's id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MessageId(pub [u8; 32]);
