//! The command line, as `--help` teaches it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::identity::Action;

/// A TLS-terminating reverse proxy that seals uploads on their way to rest.
///
/// Begin with `sealward dev`: the whole product with nothing else installed.
#[derive(Parser)]
#[command(name = "sealward", version, propagate_version = true, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run everything on this machine: own CA, local keyring, folder store, one token
    ///
    /// Prints a `curl` line that works when pasted. A second start finds all it made.
    Dev(DevArgs),
    /// Run in production, from a configuration file
    Serve(ConfigArgs),
    /// Read and validate a configuration; every fault in one go
    ///
    /// Exit code 0 when it would start, 2 when it would not.
    Check(CheckArgs),
    /// Seal a file offline, in the format of the store
    ///
    /// With --keyring, a message that official tools open with that keyring's key.
    /// With --config, --class and --key, a message bound to that object's name.
    Seal(SealArgs),
    /// Open a sealed file offline
    ///
    /// With --keyring, any message of suite 0x0478 under one of its keys. With
    /// --config, --class and --key, only that object of that class. With -o nothing
    /// is left behind a failure; standard output gets verified frames as they come,
    /// so look at the exit code.
    Open(OpenArgs),
    /// Print a sealed file's header as JSON; needs no key, and proves nothing
    Inspect(InspectArgs),
    /// Make, list and revoke access tokens
    Token(TokenArgs),
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
pub(super) struct DevArgs {
    /// Where everything is kept
    #[arg(long, default_value = ".sealward")]
    pub(super) data_dir: PathBuf,
    /// Where clients come in
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub(super) bind: SocketAddr,
    /// Where metrics and health are, in plain HTTP
    #[arg(long, default_value = "127.0.0.1:9464")]
    pub(super) admin: SocketAddr,
}

#[derive(Args)]
pub(super) struct ConfigArgs {
    /// The configuration file
    #[arg(long)]
    pub(super) config: PathBuf,
}

#[derive(Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Prove certificates, keys, stores and tokens too
    ///
    /// Opens the stores, which a server that runs on the same folders holds: stop it
    /// first, or check without.
    #[arg(long)]
    pub(super) online: bool,
}

/// Under what a message is sealed or opened.
#[derive(Args)]
pub(super) struct UnderArgs {
    /// A keyring file, as `sealward dev` makes one
    #[arg(long, required_unless_present = "config", conflicts_with_all = ["config", "class", "key"])]
    pub(super) keyring: Option<PathBuf>,
    /// A configuration file; with --class and --key
    #[arg(long, requires_all = ["class", "key"])]
    pub(super) config: Option<PathBuf>,
    /// The class in the configuration
    #[arg(long, requires = "config")]
    pub(super) class: Option<String>,
    /// The object's name in the class
    #[arg(long, requires = "config")]
    pub(super) key: Option<String>,
}

#[derive(Args)]
pub(super) struct SealArgs {
    #[command(flatten)]
    pub(super) under: UnderArgs,
    /// An entry of the encryption context, NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "config", value_parser = pair)]
    pub(super) context: Vec<(String, String)>,
    /// Plaintext bytes in a frame; 262144 when absent
    #[arg(long, value_name = "BYTES", conflicts_with = "config")]
    pub(super) frame_length: Option<u32>,
    /// The file to seal; standard input when absent or `-`
    pub(super) input: Option<PathBuf>,
    /// Where the sealed bytes go; standard output when absent or `-`
    #[arg(short, long)]
    pub(super) output: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct OpenArgs {
    #[command(flatten)]
    pub(super) under: UnderArgs,
    /// The sealed file; standard input when absent or `-`
    pub(super) input: Option<PathBuf>,
    /// Where the plaintext goes; standard output when absent or `-`
    #[arg(short, long)]
    pub(super) output: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct InspectArgs {
    /// The sealed file; standard input when absent or `-`
    pub(super) input: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct TokenArgs {
    /// The token file; instead of --config
    #[arg(long, global = true, conflicts_with = "config")]
    pub(super) tokens: Option<PathBuf>,
    /// The configuration that names the token file
    #[arg(long, global = true)]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: TokenCommand,
}

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it, this once
    New {
        /// What to call it
        name: String,
        /// A class it may use; may be repeated; every one when absent
        #[arg(long)]
        class: Vec<String>,
        /// What it may do, of read, write, delete, list, share; all when absent
        #[arg(long, value_delimiter = ',')]
        allow: Vec<Action>,
        /// How long it is good for, such as 30d or 12h; for ever when absent
        #[arg(long, value_parser = lifetime)]
        expires: Option<Duration>,
    },
    /// List tokens: names, ids and what they may, never the tokens
    List,
    /// End a token, by its name or id; running servers follow within seconds
    Revoke {
        /// Its name or id
        name: String,
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("an entry is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const HELP: &str = "a lifetime is a whole number and s, m, h or d, up to 36500d: 12h, 30d";
    const MOST: u64 = 36_500 * 86_400;
    let unit = text.chars().last().ok_or(HELP)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(HELP.into()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| HELP)?;
    let seconds = count.checked_mul(seconds).filter(|seconds| (1..=MOST).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| HELP.into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lifetimes() {
        assert_eq!(lifetime("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "d", "0s", "1", "1w", "-1d", "99999999999999999999d", "1000000d", "1ä"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }
}
