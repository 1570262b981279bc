//! What a catalogue needs around it, as it is in production: database servers that speak
//! TLS alone, and a Secrets Manager that rotates their passwords. `peers` shows that these
//! are what the other tests take them for.

#[allow(dead_code)] // shared with a binary that uses all of it
#[path = "../gateway/client.rs"]
mod client;
#[allow(dead_code)] // the same
#[path = "../aws/standin.rs"]
mod standin;
#[allow(unreachable_pub)] // shared with binaries that name it otherwise
#[path = "../support/mod.rs"]
mod support;

mod away;
mod engines;
mod fresh;
mod held;
mod index;
mod peers;
mod reaching;
mod replicas;
mod rotation;
mod secrets;
mod servers;
mod shared;
mod site;
mod start;
mod tally;
mod tokens;
