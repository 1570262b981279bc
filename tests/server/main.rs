//! The server over real sockets: handshakes, bounds, certificates, the end, the admin side.

mod admin;
mod bench;
mod bounds;
mod certificates;
mod ending;
mod handshakes;
mod streams;
