//! The real binary under floods: slow clients, idle ones, heads without end, and what HTTP/2
//! has been abused for. Each ends, or costs its sender what it costs us; meanwhile all others
//! are served, in memory that is bounded.
//!
//! `make test CARGO_TEST_FLAGS="--test floods" TEST_ARGS="--nocapture"` shows what was measured.

#![allow(clippy::float_cmp)] // metrics that count whole things

#[path = "../proxy/apps.rs"]
#[allow(dead_code)] // written for another binary, which uses all of it
mod apps;
#[path = "../proxy/nginx.rs"]
#[allow(dead_code)]
mod nginx;
#[allow(unreachable_pub)] // shared with binaries that name it otherwise
#[path = "../support/mod.rs"]
mod support;

mod attackers;
mod heads;
mod idle;
mod lab;
mod others;
mod slow;
mod streams;
