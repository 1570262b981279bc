//! The binary: see [`sealward::cli`].

fn main() {}
