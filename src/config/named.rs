//! Sections that others refer to by name: each has its own.

use super::{
    document::{Found, Section},
    report::{Fault, listed, nearest, quoted},
};

/// Such sections as far as they could be read, each with its name.
pub(super) struct Named<T>(Vec<(Option<Found<String>>, Option<T>)>);

impl<T> Named<T> {
    /// Every one, if all could be read.
    pub(super) fn finished(self) -> Option<Vec<T>> {
        self.0.into_iter().map(|(_, read)| read).collect()
    }

    /// The names, also of those with other faults. `None` when one has none that can be read.
    pub(super) fn names(&self) -> Option<Vec<&Found<String>>> {
        self.0.iter().map(|(name, _)| name.as_ref()).collect()
    }
}

/// Reads each by `one`, and compares their names.
pub(super) fn read<T>(
    sections: Vec<Section<'_>>,
    what: &str,
    one: impl Fn(&Section<'_>) -> (Option<Found<String>>, Option<T>),
) -> Named<T> {
    let mut found: Vec<(Option<Found<String>>, Option<T>)> = Vec::new();
    for section in sections {
        let (name, read) = one(&section);
        let mut earlier = found.iter().filter_map(|(earlier, _)| earlier.as_ref());
        if let Some(name) = &name
            && let Some(first) = earlier.find(|earlier| earlier.value == name.value)
        {
            let fault = Fault::new(format!("two {what}s are called {}", quoted(&name.raw)), "give one another `name`");
            section.fault(fault.at(&name.span, "taken already").and_at(&first.span, "first here"));
        }
        found.push((name, read));
    }
    Named(found)
}

/// Whether `name` can be a metric's label and a word in a log; a fault where it can't.
pub(super) fn fits(section: &Section<'_>, name: &Found<String>, what: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = (1..=64).contains(&name.value.len()) && name.value.chars().all(good);
    if !fits {
        let help = "1 to 64 of A-Z a-z 0-9 - _ .; the name is how routes, metrics and logs call it";
        let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        section.fault(Fault::new(format!("`name` doesn't fit {article} {what}"), help).at(&name.span, "this name"));
    }
    fits
}

/// Whether `found` is among `names`; a fault where it isn't.
pub(super) fn known(section: &Section<'_>, found: &Found<String>, names: &[&Found<String>], what: &str) -> bool {
    if names.iter().any(|name| name.value == found.value) {
        return true;
    }
    let raws = || names.iter().map(|name| name.raw.as_str());
    let plural = if what == "class" { "classes".to_owned() } else { format!("{what}s") };
    let help = match nearest(&found.raw, raws()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if names.is_empty() => format!("add a `[[{what}]]` with this `name`"),
        None => format!("the {plural} are {}", listed(raws())),
    };
    let fault = Fault::new(format!("there is no {what} {}", quoted(&found.raw)), help);
    section.fault(fault.at(&found.span, format!("no `[[{what}]]` has this name")));
    false
}
