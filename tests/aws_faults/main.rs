//! The real binary against an S3 and a KMS that misbehave as planned.
//!
//! `table` is the list of faults, each with what the client is told, what the
//! bucket holds, and that no upload is left; the other modules are what takes more
//! than one call to show.

#[allow(unreachable_pub)] // shared with binaries that name it otherwise
#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code)] // shared too
#[path = "../aws/standin.rs"]
mod standin;

#[allow(dead_code)] // the same
#[path = "../faults/clients.rs"]
mod clients;

mod acm;
mod breaker;
mod counts;
mod double;
mod ends;
mod kms;
mod lists;
mod looked_after;
mod planted;
mod policy;
mod recipients;
mod regions;
mod removed;
mod renewed;
mod rework;
mod s3;
mod site;
mod table;
mod template;
