//! The sealed format through its public door: what is sealed comes back, what is
//! changed is refused, and strangers agree.

#[path = "message/arithmetic.rs"]
mod arithmetic;
#[path = "message/binding.rs"]
mod binding;
#[path = "message/damage.rs"]
mod damage;
#[path = "message/header.rs"]
mod header;
#[path = "message/independent.rs"]
mod independent;
#[path = "message/roundtrip.rs"]
mod roundtrip;
#[path = "message/support.rs"]
mod support;
