//! The real binary against stand-ins for KMS and S3: what each of them judges is
//! named where it is started, and what none of them judges isn't promised here.

#![allow(clippy::float_cmp)] // counters are whole numbers

#[allow(unreachable_pub)] // it is shared by many
#[path = "../support/mod.rs"]
mod support;

mod acm;
mod check;
mod client;
mod keys;
mod ministack;
mod moto;
mod rclone;
mod rework;
mod sdk;
mod secrets;
mod standin;
mod tamper;
