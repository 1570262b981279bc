//! The HTTP interface of the real binary, over real sockets: what curl sees, and
//! what only a hand-written request can ask.

#[allow(unreachable_pub)] // it is shared by binaries that have no inside
#[path = "../support/mod.rs"]
mod support;

mod access;
mod bodies;
mod client;
mod conditions;
mod digests;
mod endings;
mod forms;
mod links;
mod lists;
mod logs;
mod metrics;
mod objects;
mod paths;
mod ranges;
