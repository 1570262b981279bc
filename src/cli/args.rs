//! The command line, as `--help` teaches it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{app::Whence, identity::Action};

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
    /// Seal a class's objects anew, under its present key or another
    ///
    /// Each object that isn't sealed under that key yet is opened and sealed again,
    /// with a new data key and a new message id: its entity tag and time change, its
    /// name, bytes, type and labels don't. An object that somebody writes meanwhile
    /// stays theirs. What is done already is passed over, so a run that was cut short
    /// is ended by running it again. A folder's store takes one process: stop the
    /// server first.
    Reencrypt(ReencryptArgs),
    /// Read every object of a class to its last byte, and report each that is bad
    ///
    /// Exit code 1 when any is. A folder's store takes one process: stop the server first.
    Verify(ClassArgs),
    /// Seal the plain objects of a bucket or folder into a class, under the same names
    ///
    /// What stands in the class already is passed over, never overwritten. What was
    /// adopted stays where it was, too: remove it yourself, once `verify` is content.
    Adopt(AdoptArgs),
    /// Tell what the catalogue knows of objects: which, under which key, by whom
    ///
    /// With `--class`, `--name` and `--check`, also whether the store holds that version.
    Objects(ObjectsArgs),
    /// Look after the catalogue
    Catalog {
        /// What to do
        #[command(subcommand)]
        command: CatalogCommand,
    },
    /// Make, list and revoke access tokens
    Token(TokenArgs),
    /// Ask a server on this machine whether it is ready, as a container's health check does
    ///
    /// Exit code 0 when it is.
    Health(HealthArgs),
    /// Print the manual page, or write one for each command
    Man {
        /// The folder they are written into: sealward.1, sealward-serve.1 and so on
        #[arg(long)]
        dir: Option<PathBuf>,
    },
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
pub(super) struct HealthArgs {
    /// Where the server's metrics and health are: `bind` of [admin]
    #[arg(long, default_value = "127.0.0.1:9464")]
    pub(super) address: SocketAddr,
    /// Ask whether the process runs, and nothing else
    #[arg(long)]
    pub(super) live: bool,
    /// How long the answer may take, such as 5s
    #[arg(long, default_value = "5s", value_parser = lifetime)]
    pub(super) timeout: Duration,
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

/// A class that is gone over.
#[derive(Args)]
pub(super) struct ClassArgs {
    /// The configuration file
    #[arg(long)]
    pub(super) config: PathBuf,
    /// The class in the configuration
    #[arg(long)]
    pub(super) class: String,
    /// Plaintext bytes a second, such as 50MiB/s; as fast as may be when absent
    #[arg(long, value_name = "BYTES/s", value_parser = rate)]
    pub(super) rate: Option<u64>,
    /// Objects at once; at most one for every 32 MiB of `limits.buffer_memory`
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: u16,
}

#[derive(Args)]
pub(super) struct ReencryptArgs {
    #[command(flatten)]
    pub(super) class: ClassArgs,
    /// The key to seal under: one of the keyring, or a KMS key; the class's own when absent
    ///
    /// The class must be able to read it. Let the configuration name it, too, before
    /// the next object is put.
    #[arg(long, value_name = "KEY")]
    pub(super) to_key: Option<String>,
    /// Write nothing; say how much there would be to do
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Args)]
pub(super) struct AdoptArgs {
    #[command(flatten)]
    pub(super) class: ClassArgs,
    /// Where the plain objects are: `s3://BUCKET/PREFIX`, or a folder
    #[arg(long, value_parser = whence)]
    pub(super) from: Whence,
}

#[derive(Args)]
pub(super) struct ObjectsArgs {
    /// The configuration file
    #[arg(long)]
    pub(super) config: PathBuf,
    /// Sealed under this key: a KMS key's ARN, or a name of the keyring
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Stored by this caller
    #[arg(long, value_name = "CALLER")]
    pub(super) by: Option<String>,
    /// Of this class
    #[arg(long)]
    pub(super) class: Option<String>,
    /// Of this name
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Also those that were removed
    #[arg(long)]
    pub(super) all: bool,
    /// At most so many, the newest first
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) limit: u32,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// Ask the store, too, whether it holds what is recorded
    #[arg(long, requires_all = ["class", "name"])]
    pub(super) check: bool,
}

#[derive(Subcommand)]
pub(super) enum CatalogCommand {
    /// Make the index of a class again from what is in its store
    Rebuild(RebuildArgs),
}

#[derive(Args)]
pub(super) struct RebuildArgs {
    /// The configuration file
    #[arg(long)]
    pub(super) config: PathBuf,
    /// The class in the configuration
    #[arg(long)]
    pub(super) class: String,
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

/// `50MiB/s`, or a number of bytes.
fn rate(text: &str) -> Result<u64, String> {
    const HELP: &str = "a rate is a whole number of bytes a second, of 64KiB or more: 65536, 512KiB/s, 50MiB/s";
    /// Below it, what was read waits too long for what is written.
    const LEAST: u64 = 64 << 10;
    let text = text.strip_suffix("/s").unwrap_or(text);
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(HELP.into()),
    };
    let number: u64 = number.parse().map_err(|_| HELP)?;
    number.checked_mul(unit).filter(|rate| *rate >= LEAST).ok_or_else(|| HELP.into())
}

fn whence(text: &str) -> Result<Whence, String> {
    let Some(place) = text.strip_prefix("s3://") else {
        return Ok(Whence::Folder(text.into()));
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err("name the bucket: s3://BUCKET/PREFIX".into());
    }
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    Ok(Whence::Bucket { bucket: bucket.to_owned(), prefix: format!("{prefix}{slash}") })
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
    fn rates() {
        assert_eq!(rate("65536"), Ok(65_536));
        assert_eq!(rate("50MiB/s"), Ok(50 << 20));
        for bad in ["", "MiB", "1", "1KiB/s", "1.5MiB", "99999999999GiB", "-1"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins() {
        let bucket = |prefix: &str| Ok(Whence::Bucket { bucket: "b".into(), prefix: prefix.into() });
        assert_eq!(whence("s3://b"), bucket(""));
        assert_eq!(whence("s3://b/"), bucket(""));
        assert_eq!(whence("s3://b/x/y"), bucket("x/y/"));
        assert_eq!(whence("s3://b/x/"), bucket("x/"));
        assert_eq!(whence("x/y"), Ok(Whence::Folder("x/y".into())));
        assert!(whence("s3:///x").is_err());
    }

    #[test]
    fn lifetimes() {
        assert_eq!(lifetime("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "d", "0s", "1", "1w", "-1d", "99999999999999999999d", "1000000d", "1ä"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }
}
