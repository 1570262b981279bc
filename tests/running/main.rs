//! What the person on call sees, and how it is installed: the real binary beside the real
//! programs that watch it, pack it, start it and take it away.

#![allow(clippy::float_cmp)] // counters are whole numbers

#[allow(dead_code)] // shared with binaries that use all of it
#[path = "../aws/standin.rs"]
mod standin;
#[allow(unreachable_pub)] // shared with binaries that name it otherwise
#[path = "../support/mod.rs"]
mod support;

mod collector;
mod progress;
mod traces;
