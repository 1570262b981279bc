//! What the person on call sees, and how it is installed: the real binary beside the real
//! programs that watch it, pack it, start it and take it away.

#![allow(clippy::float_cmp)] // counters are whole numbers

#[allow(dead_code)] // shared with a binary that uses all of it
#[path = "../gateway/client.rs"]
mod client;
#[allow(dead_code)] // the same
#[path = "../catalog/engines.rs"]
mod engines;
#[allow(dead_code)] // the same
#[path = "../catalog/servers/mod.rs"]
mod servers;
#[allow(dead_code)] // the same
#[path = "../catalog/site.rs"]
mod site;
#[allow(dead_code)] // the same
#[path = "../aws/standin.rs"]
mod standin;
#[allow(unreachable_pub)] // shared with binaries that name it otherwise
#[path = "../support/mod.rs"]
mod support;

mod book;
mod collector;
mod drills;
mod fleet;
mod packages;
mod progress;
mod replicas;
mod stack;
mod traces;
mod watched;
