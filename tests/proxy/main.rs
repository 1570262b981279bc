//! The real binary in front of real apps: nginx.

#![allow(clippy::float_cmp)] // counters are whole numbers

#[allow(unreachable_pub)] // it is shared by many
#[path = "../support/mod.rs"]
mod support;

mod access;
mod apps;
mod certificates;
mod compressed;
mod ending;
mod failing;
mod forwarding;
mod grpc;
mod haproxy;
mod heads;
mod leaving;
mod nginx;
mod peer;
mod pooled;
mod quotas;
mod refused;
mod reloading;
mod routing;
mod sticky;
mod streaming;
mod switched;
mod targets;
