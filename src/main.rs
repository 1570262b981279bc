//! The binary: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Many small pieces for each request, and memory given back a second after a crowd has gone:
/// `.cargo/config.toml` says when, and `docs/figures.md` what it brings.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    sealward::cli::main()
}
