//! Sealward: a TLS-terminating reverse proxy that seals uploads on their way to rest.
//!
//! This page is the table of contents. Rooms stand on floors; a room uses the
//! floors below its own and knows neither its neighbours nor what is above
//! (`tests/floors.rs` proves it). The life of a request is one page:
//! `docs/architecture.md`.
//!
//! | floor | rooms |
//! |---|---|
//! | 0 | [`fault`], [`secret`], [`budget`], [`proof`], [`replace`], [`shelf`], [`clock`], [`trace`] |
//! | 1 | [`aws`], [`config`], [`index`], [`metrics`], [`message`] |
//! | 2 | [`collector`], [`keys`], [`secrets`], [`store`], [`tls`], [`upstream`] |
//! | 3 | [`http`], [`objects`], [`identity`] |
//! | 4 | [`catalog`], [`gateway`], [`proxy`], [`quota`], [`rework`] |
//! | 5 | [`door`], [`server`] |
//! | 6 | [`app`] |
//! | 7 | [`cli`] |

// Floor 0: what everything may use.
pub mod budget;
pub mod clock;
pub mod fault;
pub mod proof;
pub mod replace;
pub mod secret;
pub mod shelf;
pub mod trace;

// Floor 1: values, names and the sealed format. No I/O but reading the configuration.
pub mod aws;
pub mod config;
pub mod index;
pub mod message;
pub mod metrics;

// Floor 2: the world outside, one room each.
pub mod collector;
pub mod keys;
pub mod secrets;
pub mod store;
pub mod tls;
pub mod upstream;

// Floor 3: what the doors share.
pub mod http;
pub mod identity;
pub mod objects;

// Floor 4: the doors, what goes over a whole class, and what is written down of it.
pub mod catalog;
pub mod gateway;
pub mod proxy;
pub mod quota;
pub mod rework;

// Floor 5: the way of a request, and listening and serving.
pub mod door;
pub mod server;

// Floor 6: the only place that knows every room.
pub mod app;

// Floor 7: arguments, signals, exit codes.
pub mod cli;
