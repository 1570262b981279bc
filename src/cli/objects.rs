//! `objects` and `catalog`: what is written down of objects.

use std::{collections::BTreeSet, time::SystemTime};

use serde_json::json;
use time::{OffsetDateTime, macros::format_description};

use super::{
    Failure,
    args::{ObjectsArgs, RebuildArgs},
    output, run,
};
use crate::{
    app::{self, Alone},
    catalog::Wanted,
    config::Database,
    index::{Record, State},
    objects::{ObjectKey, logged},
};

/// Names that a rebuild asks the store for at once.
const PAGE: usize = 1000;

/// Prints what the catalogue knows.
pub(super) fn run(args: &ObjectsArgs) -> Result<(), Failure> {
    let config = run::configuration(&args.config)?;
    if let Some(Database::File(path)) = config.catalog.as_ref().map(|catalog| &catalog.database)
        && !path.exists()
    {
        return Err(Failure::new(format!("there is no catalogue {}: `sealward serve` makes it", path.display())));
    }
    let wanted = Wanted {
        key: args.key.clone(),
        by: args.by.clone(),
        class: args.class.clone(),
        name: args.name.clone(),
        removed: args.all,
        limit: args.limit,
    };
    run::runtime()?.block_on(async {
        let catalog = app::catalog(&config).await?;
        let found = catalog.find(&wanted).await.map_err(Failure::new)?;
        if let (true, Some(class), Some(name)) = (args.check, &args.class, &args.name) {
            return check(&config, class, name, found.first()).await;
        }
        if args.json {
            for record in &found {
                output::say(&line(record));
            }
        } else {
            output::say(&row(["changed", "class", "size", "by", "key", "state", "name"]));
            for record in &found {
                output::say(&cells(record));
            }
        }
        Ok(())
    })
}

/// Whether what is in the store is what the catalogue knows.
async fn check(config: &crate::config::Config, class: &str, name: &str, known: Option<&Record>) -> Result<(), Failure> {
    let class = run::class(config, class)?;
    let key = ObjectKey::new(name, &class.prefix).map_err(|fault| Failure::input(fault.words()))?;
    let alone = Alone::beside(config, &class).await?;
    let other = |words: String| Err(Failure::new(format!("not the recorded version: {words}")));
    match (alone.objects.standing_id(&key).await, known) {
        (Ok(Some(there)), Some(known)) if there == known.message_id => {
            output::say("newest");
            Ok(())
        }
        (Ok(Some(there)), Some(known)) => {
            other(format!("message {there} is in the store, and {} is recorded", known.message_id))
        }
        (Ok(Some(there)), None) => other(format!("message {there} is in the store, and nothing is recorded")),
        (Ok(None), Some(_)) => other("nothing is in the store".into()),
        (Ok(None), None) => Err(Failure::new("there is no such object, in the store or in the catalogue")),
        (Err(fault), _) => other(fault.to_string()),
    }
}

/// Makes the index of a class again.
pub(super) fn rebuild(args: &RebuildArgs) -> Result<(), Failure> {
    let config = run::configuration(&args.config)?;
    run::log(&config.log)?;
    let class = run::class(&config, &args.class)?;
    run::runtime()?.block_on(async {
        // What is stored meanwhile writes itself down.
        let since = SystemTime::now();
        let catalog = app::catalog(&config).await?;
        let alone = Alone::indexed(&config, &class, &catalog).await?;
        let (mut recorded, mut unreadable) = (0_u64, 0_u64);
        let mut names = BTreeSet::new();
        let mut after: Option<ObjectKey> = None;
        loop {
            let page = alone.objects.names(after.as_ref(), PAGE).await;
            let (keys, more) = page.map_err(|fault| Failure::new(fault.to_string()))?;
            for key in &keys {
                if alone.objects.rebuild(key, since).await.map_err(|fault| Failure::new(fault.to_string()))? {
                    recorded += 1;
                } else {
                    let shown = logged(key.as_str(), config.log.object_keys);
                    tracing::warn!(object = shown, "isn't an object of the class that can be read: left out");
                    unreadable += 1;
                }
                names.insert(key.as_str().to_owned());
            }
            after = keys.into_iter().last();
            if !more || after.is_none() {
                break;
            }
        }
        let mut removed = 0_u64;
        for name in catalog.others(&class.name, &names, since).await.map_err(Failure::new)? {
            // Clocks differ: it may have been stored after its page was listed.
            let key = ObjectKey::new(&name, &class.prefix).map_err(|fault| Failure::new(fault.to_string()))?;
            let there = alone.objects.standing_id(&key).await;
            if there.map_err(|fault| Failure::new(fault.to_string()))?.is_none() {
                catalog.is_gone(&class.name, &name, since).await.map_err(Failure::new)?;
                removed += 1;
            }
        }
        output::say(&format!("{recorded} recorded, {removed} removed, {unreadable} unreadable"));
        Ok(())
    })
}

fn line(record: &Record) -> String {
    json!({
        "class": record.class,
        "vault": record.vault,
        "name": record.name,
        "size": record.size,
        "etag": record.etag,
        "message_id": record.message_id,
        "version_id": record.version_id,
        "key": record.key,
        "by": record.by,
        "state": record.state,
        "changed": changed(record.at),
    })
    .to_string()
}

fn cells(record: &Record) -> String {
    let state = match record.state {
        State::Stored => "stored",
        State::Removed => "removed",
    };
    let (changed, size) = (changed(record.at), record.size.to_string());
    // A name may hold anything but control characters: it stands last.
    row([&changed, &record.class, &size, &record.by, &record.key, state, &record.name])
}

fn row([changed, class, size, by, key, state, name]: [&str; 7]) -> String {
    format!("{changed:<24}  {class:<16}  {size:>14}  {by:<16}  {key:<24}  {state:<7}  {name}")
}

fn changed(at: SystemTime) -> String {
    let shape = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from(at).format(shape).unwrap_or_default()
}
