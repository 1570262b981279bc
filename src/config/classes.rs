//! `[[class]]`: each by itself, and what must hold between them.

use std::{
    ops::Range,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{
    Binding, Bucket, Canary, Class, Delete, KeyProvider, Metadata, Place, Sse,
    document::{Found, Section},
    report::{Fault, quoted},
};

/// The format numbers regular frames from 1 to FFFFFFFE; FFFFFFFF marks the final one.
const MOST_FRAMES: u64 = (1 << 32) - 2;
const DEFAULT_FRAME: u32 = 256 << 10;
const DEFAULT_MAX_SIZE: u64 = 1 << 40;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The classes as far as they could be read.
pub(super) struct Classes {
    drafts: Vec<Draft>,
}

/// One class, with the places of what is compared between classes.
struct Draft {
    span: Range<usize>,
    name: Option<Found<String>>,
    read_names: Vec<Found<String>>,
    vault: Option<Found<String>>,
    directory: Option<Found<PathBuf>>,
    bucket: Option<Found<String>>,
    prefix: Option<Found<String>>,
    class: Option<Class>,
}

impl Classes {
    /// Every class, if all could be read.
    pub(super) fn finished(self) -> Option<Vec<Class>> {
        self.drafts.into_iter().map(|draft| draft.class).collect()
    }

    /// Where the first class stands.
    pub(super) fn first(&self) -> Option<Range<usize>> {
        self.drafts.first().map(|draft| draft.span.clone())
    }

    /// The names, also of classes with other faults. `None` when one has none that can be read.
    pub(super) fn names(&self) -> Option<Vec<&Found<String>>> {
        self.drafts.iter().map(|draft| draft.name.as_ref()).collect()
    }
}

/// Reads the classes and compares them.
pub(super) fn read(sections: Vec<Section<'_>>, provider: Option<&KeyProvider>, catalog: bool) -> Classes {
    let mut drafts: Vec<Draft> = Vec::new();
    for section in sections {
        let draft = draft(&section, provider, catalog);
        for earlier in &drafts {
            compare(&section, earlier, &draft);
        }
        drafts.push(draft);
    }
    Classes { drafts }
}

fn draft(section: &Section<'_>, provider: Option<&KeyProvider>, catalog: bool) -> Draft {
    section.require("name", "\"records\"");
    let name = section.string("name");
    if let Some(name) = &name {
        check_label(section, "name", name, "-_");
    }
    let read_names = section.strings("read_names").unwrap_or_default();
    for (at, former) in read_names.iter().enumerate() {
        check_label(section, "read_names", former, "-_");
        let earlier = name.iter().chain(&read_names[..at]).find(|earlier| earlier.value == former.value);
        if let Some(earlier) = earlier {
            let title = format!("the class bears the name {} twice", quoted(&former.raw));
            let fault = Fault::new(title, "`read_names` are the names it had before, each once; leave this one out");
            section.fault(fault.at(&former.span, "again").and_at(&earlier.span, "first here"));
        }
    }
    let vault = section.string("vault");
    if let Some(vault) = &vault {
        check_label(section, "vault", vault, "-_.");
    }
    let kms = matches!(provider, Some(KeyProvider::Kms { .. }));
    let kms_key = if kms { section.string("kms_key") } else { None };
    if !kms {
        let title = "the local keyring takes no `kms_key`";
        section.refuse("kms_key", title, "leave it out; `write_key` names a key of the keyring");
    }
    let recipients = section.strings("recipients").unwrap_or_default();
    let (directory, bucket, place) = place(section);
    let prefix = match section.string("prefix") {
        Some(prefix) => check_prefix(section, &prefix).then_some(prefix),
        None if section.has("prefix") => None,
        None => Some(Found { value: String::new(), raw: String::new(), span: section.span() }),
    };
    let bindings = [("message-id", Binding::MessageId), ("strict", Binding::Strict)];
    let binding = section.one_of("binding", &bindings).unwrap_or(Binding::MessageId);
    let metadata = [("sealed", Metadata::Sealed), ("plain", Metadata::Plain)];
    let metadata = section.one_of("metadata", &metadata).unwrap_or(Metadata::Sealed);
    let (frame_length, max_size) = lengths(section);
    let write_key = section.string("write_key");
    if let Some(key) = &write_key {
        check_key(section, key, "`write_key` is the name of one key of the keyring, without its namespace", |name| {
            !name.contains('/')
        });
    }
    let read_keys = section.strings("read_keys");
    for key in read_keys.iter().flatten() {
        check_key(section, key, "`read_keys` are written `namespace/name`, as the keyring names its keys", |key| {
            kms || key.split_once('/').is_some_and(|(space, name)| {
                !space.is_empty() && !name.is_empty() && !name.contains('/') && !space.starts_with("aws-kms")
            })
        });
    }
    if section.is_empty_list("read_keys") {
        let help =
            "name at least one key as `\"namespace/name\"`, or leave `read_keys` out for every key of the keyring";
        let fault = Fault::new("`read_keys` is empty: nothing could be read again", help);
        section.own_fault(fault, "in this class");
    }
    let canaries = [("full", Canary::Full), ("seal", Canary::Seal), ("off", Canary::Off)];
    let canary = section.one_of("canary", &canaries).unwrap_or(Canary::Full);
    let allow_public_cache = section.boolean("allow_public_cache").unwrap_or(false);
    let fresh = section.one_of("freshness", &[("off", false), ("enforce", true)]).unwrap_or(false);
    if fresh && !catalog {
        let help = "add `[catalog]` with `url = \"sqlite:catalog.db\"`, or leave `freshness` out";
        section.own_fault(Fault::new("`freshness` needs a catalogue, and there is no [catalog]", help), "this class");
    }
    section.finish();

    let vault = match vault {
        None if !section.has("vault") => name.clone(),
        vault => vault,
    };
    let values = |list: Vec<Found<String>>| list.into_iter().map(|found| found.value).collect::<Vec<_>>();
    let class = || {
        Some(Class {
            name: name.clone()?.value,
            read_names: values(read_names.clone()),
            vault: vault.clone()?.value,
            place: place.clone()?,
            prefix: prefix.clone()?.value,
            binding,
            metadata,
            frame_length,
            max_size,
            write_key: write_key.map(|key| key.value),
            kms_key: kms_key.map(|key| key.value),
            recipients: values(recipients),
            read_keys: read_keys.map(values),
            canary,
            allow_public_cache,
            fresh,
        })
    };
    let class = class();
    if let Some(class) = class.as_ref().filter(|_| kms) {
        super::kms::check(section, class, catalog, &section.span());
    }
    Draft { span: section.span(), name, read_names, vault, directory, bucket, prefix, class }
}

/// `directory`, or `bucket` and what belongs to it.
fn place(section: &Section<'_>) -> (Option<Found<PathBuf>>, Option<Found<String>>, Option<Place>) {
    if !section.has("bucket") {
        section.require("directory", "\"objects\"");
        let directory = section.path("directory");
        let place = directory.as_ref().map(|directory| Place::Directory(directory.value.clone()));
        return (directory, None, place);
    }
    section.refuse("directory", "a class rests in a `bucket` or in a `directory`, not in both", "leave one out");
    let bucket = section.string("bucket");
    let fits = |name: &str| {
        (3..=255).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:/".contains(c))
    };
    if let Some(bucket) = bucket.as_ref().filter(|bucket| !fits(&bucket.value)) {
        let fault = Fault::new(format!("{} is no bucket", quoted(&bucket.raw)), "write the bucket's name, or an ARN");
        section.fault(fault.at(&bucket.span, "not a bucket's name"));
    }
    let sse = section.one_of("sse", &[("aws:kms", Sse::Kms), ("aws:kms:dsse", Sse::KmsDsse)]).unwrap_or(Sse::Kms);
    let require_sse_kms = section.boolean("require_sse_kms").unwrap_or(true);
    let deletes = [("marker", Delete::Marker), ("versions", Delete::Versions)];
    let delete = section.one_of("delete", &deletes).unwrap_or(Delete::Marker);
    let exclusive = section.boolean("exclusive").unwrap_or(false);
    let orphan_after = section.duration("orphan_after", DAY..=DAY * 365).unwrap_or(DAY * 7);
    let place = bucket.as_ref().map(|bucket| {
        let name = bucket.value.clone();
        Place::Bucket(Bucket { name, sse, require_sse_kms, delete, exclusive, orphan_after })
    });
    (None, bucket, place)
}

/// `frame_length` and `max_size`, which bound one another.
fn lengths(section: &Section<'_>) -> (u32, u64) {
    const PAGE: u64 = 4096;
    let frame = section.size("frame_length", PAGE..=4 << 20);
    if let Some(frame) = frame.as_ref().filter(|frame| !frame.value.is_multiple_of(PAGE)) {
        let fault =
            Fault::new("`frame_length` is not a multiple of 4KiB", "write a multiple of 4KiB, such as `\"256KiB\"`");
        section.fault(fault.at(&frame.span, "not a multiple of 4KiB"));
    }
    let frame_length = frame.and_then(|frame| u32::try_from(frame.value).ok()).unwrap_or(DEFAULT_FRAME);
    let max_size = section.size("max_size", 1..=u64::MAX >> 1);
    let most = u64::from(frame_length) * MOST_FRAMES;
    if let Some(size) = max_size.as_ref().filter(|size| size.value > most) {
        let title = format!("`max_size` is more than {MOST_FRAMES} frames hold");
        let help = "lower it to `frame_length` times 4294967294 or less, or raise `frame_length` (up to 4MiB)";
        section.fault(Fault::new(title, help).at(&size.span, "the format can't number so many frames"));
    }
    (frame_length, max_size.map_or(DEFAULT_MAX_SIZE, |size| size.value))
}

fn check_label(section: &Section<'_>, key: &str, found: &Found<String>, marks: &str) {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || marks.contains(c);
    if (1..=64).contains(&found.value.len()) && found.value.chars().all(fits) {
        return;
    }
    let marks: Vec<_> = marks.chars().map(|mark| format!("`{mark}`")).collect();
    let help = format!("write 1 to 64 of `a` to `z`, `0` to `9`, {}", marks.join(", "));
    let fault = Fault::new(format!("`{key}` cannot be {}", quoted(&found.raw)), help);
    section.fault(fault.at(&found.span, "has other characters, or too few or many"));
}

fn check_key(section: &Section<'_>, key: &Found<String>, help: &str, fits: impl Fn(&str) -> bool) {
    let plain = |c: char| !c.is_control() && !c.is_whitespace();
    if !key.value.is_empty() && key.value.len() <= 256 && key.value.chars().all(plain) && fits(&key.value) {
        return;
    }
    let fault = Fault::new(format!("{} is no name of a key here", quoted(&key.raw)), help);
    section.fault(fault.at(&key.span, "not a key's name"));
}

fn check_prefix(section: &Section<'_>, prefix: &Found<String>) -> bool {
    let value = prefix.value.as_str();
    let Some(body) = value.strip_suffix('/').or(value.is_empty().then_some("")) else {
        return refuse_prefix(
            section,
            prefix,
            "does not end in `/`",
            "end it in `/`, such as `\"in/\"`, or leave it out",
        );
    };
    let whole = "write segments and `/` after each, such as `\"in/records/\"`";
    if value.is_empty() {
        return true;
    }
    if value.starts_with('/') {
        return refuse_prefix(section, prefix, "begins with `/`", whole);
    }
    if value.len() > 512 {
        return refuse_prefix(section, prefix, "is longer than 512 bytes", "a whole name has at most 1,024 bytes");
    }
    if value.chars().any(char::is_control) {
        return refuse_prefix(section, prefix, "has a control character in it", whole);
    }
    for segment in body.split('/') {
        let (why, help) = match segment {
            "" => ("has an empty segment", whole),
            "." | ".." => ("has a `.` or `..` segment", whole),
            ".sealward" => ("has a segment `.sealward`", "that name is kept for sealward's own use: choose another"),
            _ => continue,
        };
        return refuse_prefix(section, prefix, why, help);
    }
    true
}

fn refuse_prefix(section: &Section<'_>, prefix: &Found<String>, why: &str, help: &str) -> bool {
    section.fault(Fault::new(format!("`prefix` {why}"), help).at(&prefix.span, why));
    false
}

/// What must hold between two classes, so that no object is two classes' own.
fn compare(section: &Section<'_>, earlier: &Draft, later: &Draft) {
    if let (Some(first), Some(second)) = (&earlier.name, &later.name)
        && first.value == second.value
    {
        let title = format!("two classes are called {}", quoted(&second.raw));
        let fault = Fault::new(title, "give one of them another name");
        section.fault(fault.at(&second.span, "again").and_at(&first.span, "first here"));
    } else if let (Some(first), Some(second)) = (&earlier.vault, &later.vault)
        && first.value == second.value
    {
        let pairs = earlier.names().flat_map(|a| later.names().map(move |b| (a, b)));
        for (a, b) in pairs.filter(|(a, b)| a.value == b.value) {
            let title = format!("two classes read messages of class {} in one vault", quoted(&b.raw));
            let help = "a class's name, former ones included, belongs to one class in each vault: \
                        leave it out of one `read_names`, or give one class another `vault`";
            section.fault(Fault::new(title, help).at(&b.span, "again").and_at(&a.span, "first here"));
        }
    }

    if let (Some(first), Some(second)) = (&earlier.bucket, &later.bucket)
        && first.value == second.value
    {
        one_place(section, (earlier, &first.span), (later, &second.span));
    }
    let (Some(first), Some(second)) = (&earlier.directory, &later.directory) else { return };
    let (a, b) = (lexical(&first.value), lexical(&second.value));
    if a == b {
        one_place(section, (earlier, &first.span), (later, &second.span));
    } else if a.starts_with(&b) || b.starts_with(&a) {
        let help = "give each class a `directory` beside the other's, or one `directory` and two `prefix`es";
        let fault = Fault::new("a class's directory lies inside another's", help);
        section.fault(fault.at(&second.span, "inside the other, or around it").and_at(&first.span, "the other"));
    }
}

/// Two classes of one directory or bucket need prefixes that don't hold each other.
fn one_place(section: &Section<'_>, earlier: (&Draft, &Range<usize>), later: (&Draft, &Range<usize>)) {
    let (Some(p), Some(q)) = (&earlier.0.prefix, &later.0.prefix) else { return };
    if p.value.starts_with(&q.value) || q.value.starts_with(&p.value) {
        let help = "give each class a `prefix` that doesn't begin with the other's, or a place of its own";
        let fault = Fault::new("two classes store in one place", help);
        let at = |prefix: &Found<String>, place: &Range<usize>| match prefix.value.as_str() {
            "" => place.clone(),
            _ => prefix.span.clone(),
        };
        let (here, other) = (at(q, later.1), at(p, earlier.1));
        section.fault(fault.at(&here, "inside the other, or around it").and_at(&other, "the other"));
    }
}

impl Draft {
    fn names(&self) -> impl Iterator<Item = &Found<String>> {
        self.name.iter().chain(&self.read_names)
    }
}

/// The path without `.` and `..`, and absolute where the working directory is
/// known. Links are not followed: the directory may not exist yet.
fn lexical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
