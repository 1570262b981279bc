//! Someone changes the store behind Sealward's back: what a real client ends up
//! with, and what the operator's metric says.
//!
//! Every row of [`rows`] is an object that was stored in earnest and then damaged,
//! moved or forged. For none of them may a byte leave that wasn't proved, nor a
//! transfer end cleanly that isn't the whole truth.

#[allow(unreachable_pub)] // it is shared by many
#[path = "../support/mod.rs"]
mod support;

mod ask;
mod exhaustive;
mod lab;
mod object;
mod reads;
mod rows;
mod verdict;
