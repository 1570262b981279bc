//! `check`: would it start?

use std::path::Path;

use super::{Failure, output, run};
use crate::{
    app,
    config::{Parsed, Text},
    proof::{Proof, Verdict},
};

/// Reads and validates; with `online`, tries all that the file names and prints a
/// line for each.
pub(super) fn run(path: &Path, online: bool) -> Result<(), Failure> {
    if !online && let Parsed::Wanting(secrets) = Text::read(path)?.parse(&|_, _| None)? {
        let names = secrets.iter().map(|secret| format!("`{}`", secret.name)).collect::<Vec<_>>().join(", ");
        output::say(&format!(
            "{} reads well as far as it goes: values come out of {names}, which `--online` fetches",
            path.display()
        ));
        return Ok(());
    }
    let runtime = run::runtime()?;
    let configuration = runtime.block_on(app::Configuration::read(path)).map_err(|error| match error {
        app::Unreadable::Faults(faults) => faults.into(),
        // Without it the rest can't be understood, and so not be tried.
        app::Unreadable::Secret(error) => Failure::input(format!("{}: {error}", path.display())),
    })?;
    let config = &configuration.config;
    let counts = [
        (config.listeners.len(), "listener", "listeners"),
        (config.secrets.len(), "secret", "secrets"),
        (config.classes.len(), "class", "classes"),
        (config.routes.len(), "route", "routes"),
    ];
    let mut how = "reads well".to_owned();
    if online {
        let proofs = runtime.block_on(app::prove(configuration));
        output::say(&table(&proofs));
        let count = |verdict| proofs.iter().filter(|proof| proof.verdict == verdict).count();
        let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
        if failed > 0 {
            let of = format!("{}: {failed} of {} things tried failed", path.display(), proofs.len());
            // Again, where only what went wrong is read.
            let list: String =
                proofs.iter().filter(|proof| proof.failed()).map(|proof| format!("\n  {proof}")).collect();
            return Err(Failure::input(of + ":" + &list));
        }
        how = format!("reads well; {} things are proved", proofs.len() - warned);
        if warned > 0 {
            how = format!("{how}, and {warned} to be looked at");
        }
    }
    // Most have no secrets, and needn't read of it.
    let counts = counts.iter().filter(|(count, one, _)| *count > 0 || *one != "secret");
    let counts: Vec<_> =
        counts.map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many })).collect();
    output::say(&format!("{} {how}: {}", path.display(), counts.join(", ")));
    Ok(())
}

/// One line for each proof: verdict, of what, what, and what was found.
fn table(proofs: &[Proof]) -> String {
    let width = |cell: fn(&Proof) -> &str| proofs.iter().map(|proof| cell(proof).chars().count()).max().unwrap_or(0);
    let (of, what) = (width(|proof| &proof.of), width(|proof| &proof.what));
    let line = |proof: &Proof| {
        // A second line of words stands below the first.
        let words = proof.words.replace('\n', &format!("\n{:1$}", "", 10 + of + what));
        format!("{:4}  {:of$}  {:what$}  {words}", proof.verdict.as_str(), proof.of, proof.what)
    };
    proofs.iter().map(line).collect::<Vec<_>>().join("\n")
}
