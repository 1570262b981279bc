//! The limit on open files.

use std::io;

/// Raises the soft limit on open files to the hard one, logs it, and returns it.
///
/// # Errors
/// When the system refuses; serving goes on with the limit there is.
pub fn raise_file_limit() -> io::Result<u64> {
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    tracing::info!(limit, "open files");
    Ok(limit)
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_a_limit() {
        assert!(super::raise_file_limit().expect("asked") > 0);
    }
}
