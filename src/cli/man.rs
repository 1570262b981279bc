//! `man`: manual pages out of what `--help` says.

use std::{fs, path::Path};

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::{Failure, args::Cli, output};

/// Prints the page of the whole, or writes one for each command into `folder`.
pub(super) fn run(folder: Option<&Path>) -> Result<(), Failure> {
    let command = Cli::command();
    let Some(folder) = folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(Failure::new)?;
        output::say(String::from_utf8_lossy(&page).trim_end());
        return Ok(());
    };
    let fail = |error: std::io::Error| Failure::new(format!("{}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(fail)?;
    clap_mangen::generate_to(command, folder).map_err(fail)
}
