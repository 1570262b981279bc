//! Arguments, signals, exit codes.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

mod args;
mod check;
mod dev;
mod health;
mod inspect;
mod man;
mod manager;
mod objects;
mod offline;
mod output;
mod progress;
mod rework;
mod run;
mod token;

use args::{CatalogCommand, Cli, Command};

use crate::{app, config, keys::local::KeyringError};

/// Runs the command line. Exit code 0 for done, 1 for a failure, 2 for input that
/// can't be used.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Dev(args) => dev::run(&args.data_dir, args.bind, args.admin),
        Command::Serve(args) => run::serve(&args.config),
        Command::Check(args) => check::run(&args.config.config, args.online),
        Command::Seal(args) => offline::seal(&args),
        Command::Open(args) => offline::open(&args),
        Command::Inspect(args) => inspect::run(args.input.as_deref()),
        Command::Reencrypt(args) => rework::reencrypt(&args),
        Command::Verify(args) => rework::verify(&args),
        Command::Adopt(args) => rework::adopt(&args),
        Command::Objects(args) => objects::run(&args),
        Command::Catalog { command: CatalogCommand::Rebuild(args) } => objects::rebuild(&args),
        Command::Token(args) => token::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Man { dir } => man::run(dir.as_deref()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sealward", &mut script);
            output::say(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.words);
            ExitCode::from(failure.code)
        }
    }
}

/// Why a command ended without doing what it was for.
struct Failure {
    code: u8,
    words: String,
}

impl Failure {
    /// Something failed: exit code 1.
    fn new(words: impl ToString) -> Self {
        Self { code: 1, words: words.to_string() }
    }

    /// The input can't be used: exit code 2.
    fn input(words: impl ToString) -> Self {
        Self { code: 2, words: words.to_string() }
    }
}

impl From<config::Faults> for Failure {
    fn from(faults: config::Faults) -> Self {
        Self::input(faults.render(output::colour()))
    }
}

impl From<app::Unreadable> for Failure {
    fn from(error: app::Unreadable) -> Self {
        match error {
            app::Unreadable::Faults(faults) => faults.into(),
            app::Unreadable::Secret(error) => error.into(),
        }
    }
}

impl From<app::StartError> for Failure {
    fn from(error: app::StartError) -> Self {
        Self::new(error)
    }
}

impl From<KeyringError> for Failure {
    fn from(error: KeyringError) -> Self {
        Self::input(error)
    }
}
