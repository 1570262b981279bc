//! The sealed format through its public door: what is sealed comes back, what is
//! changed is refused, and strangers agree.

// A sealer seals and an opener opens: the format's own words are alike.
#![allow(clippy::similar_names)]

#[path = "message/arithmetic.rs"]
mod arithmetic;
#[path = "message/binding.rs"]
mod binding;
#[path = "message/corpus.rs"]
mod corpus;
#[path = "message/damage.rs"]
mod damage;
#[path = "message/header.rs"]
mod header;
#[path = "message/independent.rs"]
mod independent;
#[path = "../fuzz/src/replay.rs"]
mod replay;
#[path = "message/roundtrip.rs"]
mod roundtrip;
#[path = "message/support.rs"]
mod support;
#[path = "message/vectors.rs"]
mod vectors;
