//! The binary: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

/// Requests ask for memory some hundred times: the system's allocator takes a sixth of their time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sealward::cli::main()
}
