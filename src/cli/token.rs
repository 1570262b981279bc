//! `token`: access tokens, made and ended.

use std::{
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    Failure,
    args::{TokenArgs, TokenCommand},
    output, run,
};
use crate::{
    app,
    config::{Config, Tokens},
    identity::{Action, Grant, TokenFile, TokenRecord},
};

pub(super) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let path = match place_of(args)? {
        Place::File(path) => path,
        Place::Catalog(config) => return run::runtime()?.block_on(in_catalog(args, &config)),
    };
    match &args.command {
        TokenCommand::New { name, class, allow, expires } => {
            check_classes(args, class)?;
            let file = TokenFile::open(&path, true).map_err(Failure::new)?;
            let token = file.issue(name, grant(class, allow), *expires).map_err(Failure::new)?;
            output::say(token.expose());
        }
        TokenCommand::List => {
            let file = TokenFile::open(&path, false).map_err(Failure::new)?;
            output::say(&row(["name", "id", "created", "expires", "may"]));
            for token in file.list().map_err(Failure::new)? {
                output::say(&line(&token));
            }
        }
        TokenCommand::Revoke { name } => {
            TokenFile::open(&path, false).and_then(|file| file.revoke(name)).map_err(Failure::new)?;
        }
    }
    Ok(())
}

/// The same, of tokens in the catalogue.
async fn in_catalog(args: &TokenArgs, config: &Config) -> Result<(), Failure> {
    let catalog = app::catalog(config).await?;
    let tokens = app::catalog_tokens(config, &catalog).await?;
    match &args.command {
        TokenCommand::New { name, class, allow, expires } => {
            known(config, class)?;
            let token = tokens.issue(name, grant(class, allow), *expires).await.map_err(Failure::new)?;
            output::say(token.expose());
        }
        TokenCommand::List => {
            let head = row(["name", "id", "created", "expires", "may"]);
            output::say(&format!("{head}, last used"));
            for listed in tokens.list().await.map_err(Failure::new)? {
                let used = listed.used.map_or_else(|| "never".to_owned(), httpdate::fmt_http_date);
                output::say(&format!("{}, {used}", line(&listed.record)));
            }
        }
        TokenCommand::Revoke { name } => tokens.revoke(name).await.map_err(Failure::new)?,
    }
    Ok(())
}

fn grant(classes: &[String], actions: &[Action]) -> Grant {
    Grant { classes: classes.iter().cloned().collect(), actions: actions.iter().copied().collect() }
}

/// Where tokens are.
enum Place {
    File(PathBuf),
    Catalog(Box<Config>),
}

fn place_of(args: &TokenArgs) -> Result<Place, Failure> {
    if let Some(path) = &args.tokens {
        return Ok(Place::File(path.clone()));
    }
    let Some(config) = &args.config else {
        return Err(Failure::input("which tokens? name --config FILE, or --tokens FILE"));
    };
    let config = run::configuration(config)?;
    match &config.identity.tokens {
        Some(Tokens::File(path)) => Ok(Place::File(path.clone())),
        Some(Tokens::Catalog) => Ok(Place::Catalog(Box::new(config))),
        None => Err(Failure::input(
            "the configuration names no place for tokens: add `tokens = \"tokens.json\"` to [identity]",
        )),
    }
}

/// A class the configuration hasn't got would be a token for nothing.
fn check_classes(args: &TokenArgs, classes: &[String]) -> Result<(), Failure> {
    let Some(config) = args.config.as_ref().filter(|_| !classes.is_empty()) else { return Ok(()) };
    known(&run::configuration(config)?, classes)
}

fn known(config: &Config, classes: &[String]) -> Result<(), Failure> {
    match classes.iter().find(|class| config.class(class).is_none()) {
        None => Ok(()),
        Some(unknown) => {
            let names: Vec<&str> = config.class_names().into_iter().collect();
            let names = names.join(", ");
            Err(Failure::input(format!("the configuration has no class `{unknown}`; it has: {names}")))
        }
    }
}

fn line(token: &TokenRecord) -> String {
    let expires = match token.expires {
        Some(seconds) => httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds)),
        None => "never".to_owned(),
    };
    let list = |names: Vec<String>, all: &str| if names.is_empty() { all.to_owned() } else { names.join(",") };
    let actions = list(token.grant.actions.iter().map(ToString::to_string).collect(), "everything");
    let classes = list(token.grant.classes.iter().cloned().collect(), "every class");
    row([&token.name, &token.id, &token.created, &expires, &format!("{actions} in {classes}")])
}

fn row([name, id, created, expires, may]: [&str; 5]) -> String {
    format!("{name:<20} {id:<14} {created:<22} {expires:<31} {may}")
}
