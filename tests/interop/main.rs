//! With the official tools, both ways: what we seal they open, what they seal we
//! open, and what the server stores belongs to whoever has the keyring.

#[allow(unreachable_pub)] // it is shared by many
#[path = "../support/mod.rs"]
mod support;

mod offline;
mod peers;
mod stored;
