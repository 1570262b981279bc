//! Reads TOML by asking for keys, and remembers what is wrong on the way.
//!
//! A getter that finds a fault records it and answers `None`, as it does for
//! an absent key: reading goes on, and every fault of a file is reported at
//! once. A [`Section`] remembers which keys it was asked for, so that
//! [`Section::finish`] can name those that nobody knows.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Secret, SecretRef,
    expand::{self, Environment},
    report::{Fault, listed, nearest, quoted},
};
use crate::secret::SecretText;

mod values;

/// What the sections of one file share.
pub(super) struct Document<'a> {
    base: &'a Path,
    environment: Environment<'a>,
    secrets: Values<'a>,
    faults: RefCell<Vec<Fault>>,
    known: RefCell<BTreeSet<String>>,
    defined: RefCell<BTreeMap<String, Secret>>,
    wanted: RefCell<BTreeSet<String>>,
    region: RefCell<Option<String>>,
}

/// What a secret, or a field of it, holds: `None` while it hasn't been fetched, and in
/// words why it has no such field.
pub type Values<'a> = &'a dyn Fn(&str, Option<&str>) -> Option<Result<SecretText, String>>;

/// One table of the file.
pub(super) struct Section<'a> {
    document: &'a Document<'a>,
    table: &'a DeTable<'a>,
    /// `None` for the file itself.
    span: Option<Range<usize>>,
    /// As a person would write it: `[keys]`, `[[class]]`, `listener.tls`.
    title: String,
    /// Dotted, from the root; empty for the root.
    path: String,
    asked: RefCell<BTreeSet<&'static str>>,
    refused: RefCell<BTreeSet<&'static str>>,
}

/// A value, how it is written in the file, and where.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    /// After expansion: never to be repeated in a fault.
    pub(super) value: T,
    /// Before expansion: what faults quote.
    pub(super) raw: String,
    /// Byte offsets of the value.
    pub(super) span: Range<usize>,
}

impl<'a> Document<'a> {
    /// Relative paths stand below `base`; `${NAME}` looks in `environment`.
    pub(super) fn new(base: &'a Path, environment: Environment<'a>, secrets: Values<'a>) -> Self {
        Self {
            base,
            environment,
            secrets,
            faults: RefCell::default(),
            known: RefCell::default(),
            defined: RefCell::default(),
            wanted: RefCell::default(),
            region: RefCell::default(),
        }
    }

    /// The region of secrets that say none of their own.
    pub(super) fn set_region(&self, region: Option<&str>) {
        self.region.replace(region.map(str::to_owned));
    }

    /// Every `[[secret]]`, by name.
    pub(super) fn defined(&self) -> Vec<Secret> {
        let region = self.region.borrow();
        self.defined.borrow().values().cloned().map(|secret| secret.in_region(region.as_deref())).collect()
    }

    /// The secrets whose values are needed and haven't been fetched.
    pub(super) fn wanted(&self) -> BTreeSet<String> {
        self.wanted.borrow().clone()
    }

    /// The whole file as a section.
    pub(super) fn root(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        Section {
            document: self,
            table,
            span: None,
            title: "the file".into(),
            path: String::new(),
            asked: RefCell::default(),
            refused: RefCell::default(),
        }
    }

    /// Records a fault.
    pub(super) fn fault(&self, fault: Fault) {
        self.faults.borrow_mut().push(fault);
    }

    /// Every key that was asked for, dotted from the root.
    #[cfg(test)]
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    /// Whether nothing was recorded.
    pub(super) fn is_clean(&self) -> bool {
        self.faults.borrow().is_empty()
    }

    /// What was recorded.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }
}

impl<'a> Section<'a> {
    /// Records a fault.
    pub(super) fn fault(&self, fault: Fault) {
        self.document.fault(fault);
    }

    /// A fault of this section as a whole; `label` stands at its head.
    pub(super) fn own_fault(&self, fault: Fault, label: &str) {
        self.fault(match &self.span {
            Some(span) => fault.at(span, label),
            None => fault,
        });
    }

    /// Where this section stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone().unwrap_or_default()
    }

    /// Whether the key is written, well or badly.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A fault unless the key is there. `example` is TOML for its value.
    pub(super) fn require(&self, key: &str, example: &str) {
        if !self.has(key) {
            let fault = Fault::new(format!("{} lacks `{key}`", self.title), format!("add `{key} = {example}`"));
            self.own_fault(fault, &format!("`{key}` is missing here"));
        }
    }

    /// A fault if the key is there: one that people may expect, and that this build doesn't have.
    pub(super) fn refuse(&self, key: &'static str, title: &str, help: &str) {
        self.refused.borrow_mut().insert(key);
        if let Some((name, _)) = self.table.get_key_value(key) {
            self.fault(Fault::new(title, help).at(&name.span(), "has no place here"));
        }
    }

    /// Knows the key, and doesn't look at it.
    pub(super) fn allow(&self, key: &'static str) {
        self.asked.borrow_mut().insert(key);
    }

    /// Whether the key's value is this string.
    pub(super) fn is_written(&self, key: &str, text: &str) -> bool {
        matches!(self.table.get(key).map(Spanned::get_ref), Some(DeValue::String(raw)) if raw == text)
    }

    /// Whether the key holds a list with nothing in it.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        matches!(self.table.get(key).map(Spanned::get_ref), Some(DeValue::Array(list)) if list.is_empty())
    }

    /// What `{ secret = "…" }` refers to, where the key's value is such a table; its value
    /// isn't looked at.
    pub(super) fn reference(&self, key: &'static str) -> Option<SecretRef> {
        let (value, span) = self.value(key)?;
        if is_secret(value) { self.referred(value, &span) } else { None }
    }

    /// Whether the key's value refers to a secret.
    pub(super) fn is_reference(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| is_secret(value.get_ref()))
    }

    /// Whether the key's value is a string.
    pub(super) fn is_string(&self, key: &str) -> bool {
        matches!(self.table.get(key).map(Spanned::get_ref), Some(DeValue::String(_)))
    }

    /// Takes note of a secret; false where there is one of that name.
    pub(super) fn define(&self, secret: Secret) -> bool {
        let mut defined = self.document.defined.borrow_mut();
        let fresh = !defined.contains_key(&secret.name);
        if fresh {
            defined.insert(secret.name.clone(), secret);
        }
        fresh
    }

    /// The `[[secret]]` that `name` may be a slip for.
    pub(super) fn nearest_secret(&self, name: &str) -> Option<String> {
        nearest(name, self.document.defined.borrow().keys().map(String::as_str)).map(str::to_owned)
    }

    /// Whether there is a `[[secret]]` called `name`.
    pub(super) fn is_defined(&self, name: &str) -> bool {
        self.document.defined.borrow().contains_key(name)
    }

    /// `path`, which stands below the file's folder where it is relative.
    pub(super) fn below_file(&self, path: &str) -> PathBuf {
        self.document.base.join(path)
    }

    /// Whether the key holds a list whose first entry is a table.
    pub(super) fn is_list_of_tables(&self, key: &str) -> bool {
        let list = self.table.get(key).and_then(|value| value.get_ref().as_array());
        list.is_some_and(|list| list.iter().any(|entry| entry.get_ref().is_table() && !is_secret(entry.get_ref())))
    }

    /// A table below this one.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let (value, span) = self.value(key)?;
        match value {
            DeValue::Table(table) => Some(self.below(key, table, span, false)),
            other => {
                let help = match self.path.as_str() {
                    "" => format!("write `[{key}]` and its keys below it"),
                    path => format!("write `{key} = {{ … }}`, or `[{path}.{key}]` and its keys below it"),
                };
                self.mistyped(key, &span, other, "a table", &help)
            }
        }
    }

    /// One table `key = { … }`, or a list of them.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Section<'a>> {
        match self.table.get(key).map(toml::Spanned::get_ref) {
            Some(DeValue::Array(list)) if !list.is_empty() => self.sections(key),
            _ => self.section(key).into_iter().collect(),
        }
    }

    /// The tables `[[key]]`, in their order.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some((value, span)) = self.value(key) else { return Vec::new() };
        let help = format!("write `[[{key}]]` with two brackets, once for each");
        let mistyped = |span: &Range<usize>, value: &DeValue<'_>| {
            self.mistyped::<()>(key, span, value, "a list of tables", &help);
        };
        match value {
            DeValue::Array(list) => {
                let tables = list.iter().filter_map(|entry| match entry.get_ref() {
                    DeValue::Table(table) => Some(self.below(key, table, entry.span(), true)),
                    other => {
                        mistyped(&entry.span(), other);
                        None
                    }
                });
                tables.collect()
            }
            DeValue::Table(table) => {
                mistyped(&span, value);
                // What is meant is clear, so its own faults are reported too.
                vec![self.below(key, table, span, true)]
            }
            other => {
                mistyped(&span, other);
                Vec::new()
            }
        }
    }

    /// Ends the reading: a key nobody asked for is a fault.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        let refused = self.refused.borrow();
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if asked.contains(name) || refused.contains(name) {
                continue;
            }
            let help = match nearest(name, asked.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("what fits in {}: {}", self.title, listed(asked.iter().copied())),
            };
            let title = format!("unknown key {} in {}", quoted(name), self.title);
            self.fault(Fault::new(title, help).at(&key.span(), "unknown"));
        }
    }

    fn value(&self, key: &'static str) -> Option<(&'a DeValue<'a>, Range<usize>)> {
        self.asked.borrow_mut().insert(key);
        self.document.known.borrow_mut().insert(self.dotted(key));
        let table: &'a DeTable<'a> = self.table;
        table.get(key).map(|value| (value.get_ref(), value.span()))
    }

    fn below(&self, key: &str, table: &'a DeTable<'a>, span: Range<usize>, many: bool) -> Section<'a> {
        let path = self.dotted(key);
        let title = match (self.path.is_empty(), many) {
            (true, true) => format!("`[[{key}]]`"),
            (true, false) => format!("`[{key}]`"),
            (false, _) => format!("`{path}`"),
        };
        let (asked, refused) = (RefCell::default(), RefCell::default());
        Section { document: self.document, table, span: Some(span), title, path, asked, refused }
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The text of a string, or of the secret that is meant.
    fn text(&self, value: &'a DeValue<'a>, span: &Range<usize>) -> Option<Found<String>> {
        if let DeValue::String(raw) = value {
            return self.expanded(raw, span);
        }
        let SecretRef { name, field } = self.referred(value, span)?;
        let raw = match &field {
            Some(field) => format!("{{ secret = \"{name}\", field = \"{field}\" }}"),
            None => format!("{{ secret = \"{name}\" }}"),
        };
        match (self.document.secrets)(&name, field.as_deref()) {
            None => {
                self.document.wanted.borrow_mut().insert(name);
                None
            }
            Some(Ok(value)) => Some(Found { value: value.expose().to_owned(), raw, span: span.clone() }),
            Some(Err(words)) => {
                let help = "name a field that it has, or leave `field` out for the whole of it";
                self.fault(Fault::new(format!("the secret {} {words}", quoted(&name)), help).at(span, "from here"));
                None
            }
        }
    }

    /// The secret and field that a table `{ secret = "…" }` names.
    fn referred(&self, value: &'a DeValue<'a>, span: &Range<usize>) -> Option<SecretRef> {
        let DeValue::Table(table) = value else { return None };
        let section = self.below("secret", table, span.clone(), false);
        // Not `string`: a secret's name doesn't come out of a secret.
        let plain = |key: &'static str| {
            section.asked.borrow_mut().insert(key);
            let value = table.get(key)?;
            match value.get_ref() {
                DeValue::String(raw) => section.expanded(raw, &value.span()),
                other => section.mistyped(key, &value.span(), other, "a string", "put it in quotes"),
            }
        };
        let (name, field) = (plain("secret"), plain("field"));
        section.finish();
        let name = name?;
        if !self.is_defined(&name.value) {
            let defined = self.document.defined.borrow();
            let help = match nearest(&name.raw, defined.keys().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "add a `[[secret]]` with that `name` and a `source`".into(),
            };
            self.fault(
                Fault::new(format!("there is no `[[secret]]` {}", quoted(&name.raw)), help)
                    .at(&name.span, "not defined"),
            );
            return None;
        }
        Some(SecretRef { name: name.value, field: field.map(|field| field.value) })
    }

    fn expanded(&self, raw: &str, span: &Range<usize>) -> Option<Found<String>> {
        match expand::expand(raw, self.document.base, self.document.environment) {
            Ok(value) => Some(Found { value, raw: raw.to_owned(), span: span.clone() }),
            Err(unexpanded) => {
                self.fault(Fault::new(unexpanded.title, unexpanded.help).at(span, "in this value"));
                None
            }
        }
    }

    fn mistyped<T>(&self, key: &str, span: &Range<usize>, found: &DeValue<'_>, wanted: &str, help: &str) -> Option<T> {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let title = format!("`{key}` in {} must be {wanted}", self.title);
        self.fault(Fault::new(title, help).at(span, format!("this is {found}")));
        None
    }
}

/// Whether it is `{ secret = "…" }`.
fn is_secret(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::Table(table) if table.contains_key("secret"))
}

/// Whether it gives text: a string, or a secret's value.
fn is_text(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::String(_)) || is_secret(value)
}

/// Whether it gives text that comes from elsewhere.
fn is_inserted(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::String(raw) if raw.contains("${")) || is_secret(value)
}
