//! `[[secret]]`: names for what lies elsewhere, and `{ secret = "name" }` for its value.

use std::time::Duration;

use super::{
    Fault, Secret, SecretSource,
    document::{Found, Section},
    report::listed,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How often a service is asked, and how often a file is read.
const SERVICE: Duration = Duration::from_secs(300);
const FILE: Duration = Duration::from_secs(10);
const SOURCES: [&str; 4] = ["secrets_manager", "parameter", "file", "env"];

/// Reads every `[[secret]]`, so that what is read after may refer to them.
pub(super) fn read(sections: Vec<Section<'_>>) {
    for section in sections {
        if let Some((name, secret)) = secret(&section)
            && !section.define(secret)
        {
            let fault = Fault::new("two secrets have one name", "give each `[[secret]]` a name of its own");
            section.fault(fault.at(&name.span, "taken already"));
        }
    }
}

fn secret(section: &Section<'_>) -> Option<(Found<String>, Secret)> {
    section.require("name", "\"database\"");
    section.require("source", "{ secrets_manager = \"prod/database\" }");
    let name = section.string("name").filter(|name| fits(section, name));
    let source = section.section("source").and_then(|source| self::source(&source));
    let usual = match &source {
        Some(SecretSource::File(_)) => FILE,
        _ => SERVICE,
    };
    let refresh = section.duration("refresh", SECOND..=DAY).unwrap_or(usual);
    let region = section.string("region").map(|region| region.value);
    section.finish();
    let (name, source) = (name?, source?);
    let secret = Secret { name: name.value.clone(), source, refresh, region };
    Some((name, secret))
}

fn fits(section: &Section<'_>, name: &Found<String>) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let fits = (1..=64).contains(&name.value.len()) && name.value.chars().all(good);
    if !fits {
        let help = "1 to 64 of A-Z a-z 0-9 - _ . /; the name is how this file, metrics and logs call it";
        section.fault(Fault::new("`name` doesn't fit a secret", help).at(&name.span, "this name"));
    }
    fits
}

fn source(section: &Section<'_>) -> Option<SecretSource> {
    let manager = section.string("secrets_manager").map(|found| SecretSource::Manager(found.value));
    let parameter = section.string("parameter").map(|found| SecretSource::Parameter(found.value));
    let file = section.path("file").map(|found| SecretSource::File(found.value));
    let env = section.string("env").map(|found| SecretSource::Env(found.value));
    section.finish();
    let written = SOURCES.iter().filter(|key| section.has(key)).count();
    if written != 1 {
        let help = format!("write one of {}", listed(SOURCES.into_iter()));
        section.own_fault(Fault::new("a secret has one source", help), &format!("{written} are named here"));
        return None;
    }
    let found = manager.or(parameter).or(file).or(env)?;
    let empty = matches!(&found, SecretSource::Manager(name) | SecretSource::Parameter(name) | SecretSource::Env(name) if name.is_empty());
    if empty {
        section.own_fault(
            Fault::new("the source of a secret has no name", "write what it is called there"),
            "in this table",
        );
        return None;
    }
    Some(found)
}

impl Secret {
    /// With `region`, where it says none of its own.
    pub(super) fn in_region(mut self, region: Option<&str>) -> Self {
        self.region = self.region.or_else(|| region.map(str::to_owned));
        self
    }

    /// One of Secrets Manager that no `[[secret]]` names.
    pub(super) fn of_manager(id: &str) -> Self {
        Self { name: id.to_owned(), source: SecretSource::Manager(id.to_owned()), refresh: SERVICE, region: None }
    }
}
