//! The real binary under faults: killed, on a full disk, left by its clients,
//! starved by slow ones, crowded, told to end, and started where it can't.

#![allow(clippy::float_cmp)] // metrics that count whole things

#[allow(unreachable_pub)] // shared with binaries that name it otherwise
#[path = "../support/mod.rs"]
mod support;

mod authority;
mod away;
mod certificates;
mod clients;
mod crowd;
mod ending;
mod full;
mod gone;
mod killed;
mod mutual;
mod names;
mod proxied;
mod slow;
mod stapled;
mod start;
mod tickets;
