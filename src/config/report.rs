//! What is wrong with a configuration file, where, and how to mend it.
//!
//! A fault's words quote the file as it is written, never what `${…}` in it
//! stands for: that may be a secret.

use std::{
    error::Error,
    fmt::{self, Write as _},
    ops::Range,
};

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

/// All faults of one configuration file, in the order of their places.
pub struct Faults {
    origin: String,
    source: String,
    list: Vec<Fault>,
}

/// One fault: what is wrong, where, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    title: String,
    help: String,
    span: Option<Range<usize>>,
    label: String,
    second: Option<(Range<usize>, String)>,
    line: Option<usize>,
    second_line: Option<usize>,
}

impl Faults {
    /// The faults, in the order of their places; those without a place come first.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.list.iter()
    }

    /// How many there are; never 0 in what [`super::Config::load`] returns.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The report for a person: each fault with its file, line and column, the
    /// line itself, and the mend. With `colour`, in ANSI escape sequences.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut report = String::new();
        for fault in &self.list {
            report.push_str(&renderer.render(&[self.group(fault)]));
            report.push_str("\n\n");
        }
        let count = self.list.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        // Writing into a String cannot fail.
        let _ = write!(report, "{count} {noun} in {}", printable(&self.origin));
        report
    }

    /// Sorts `faults` of `source`, which faults call `origin`.
    pub(super) fn new(origin: &str, source: &str, mut faults: Vec<Fault>) -> Self {
        for fault in &mut faults {
            fault.span = fault.span.take().map(|span| within(source, &span));
            fault.second = fault.second.take().map(|(span, label)| (within(source, &span), label));
            fault.line = fault.span.as_ref().map(|span| line_of(source, span.start));
            fault.second_line = fault.second.as_ref().map(|(span, _)| line_of(source, span.start));
        }
        faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
        Self { origin: origin.to_owned(), source: source.to_owned(), list: faults }
    }

    fn group<'a>(&'a self, fault: &'a Fault) -> annotate_snippets::Group<'a> {
        let title = Level::ERROR.primary_title(&fault.title);
        let group = match &fault.span {
            None => title.element(Origin::path(&self.origin)),
            Some(span) => {
                let mut snippet = Snippet::source(&self.source)
                    .path(&self.origin)
                    .annotation(AnnotationKind::Primary.span(span.clone()).label(&fault.label));
                if let Some((span, label)) = &fault.second {
                    snippet = snippet.annotation(AnnotationKind::Context.span(span.clone()).label(label));
                }
                title.element(snippet)
            }
        };
        group.element(Level::HELP.message(&fault.help))
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

// The same as Display: an `unwrap` in a test, or `{:?}` in a log, is then readable.
impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Faults {}

impl Fault {
    /// What is wrong, in one line.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How to mend it.
    pub fn help(&self) -> &str {
        &self.help
    }

    /// What is said at the place itself; may be empty.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The place: byte offsets in the file. `None` when the whole file is meant.
    pub fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    /// The line of the place, from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The line of the second place, from 1, where two places contradict one another.
    pub fn second_line(&self) -> Option<usize> {
        self.second_line
    }

    /// A fault of the whole file, until [`Fault::at`] gives it a place.
    pub(super) fn new(title: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            help: help.into(),
            span: None,
            label: String::new(),
            second: None,
            line: None,
            second_line: None,
        }
    }

    pub(super) fn at(mut self, span: &Range<usize>, label: impl Into<String>) -> Self {
        self.span = Some(span.clone());
        self.label = label.into();
        self
    }

    pub(super) fn and_at(mut self, span: &Range<usize>, label: impl Into<String>) -> Self {
        self.second = Some((span.clone(), label.into()));
        self
    }
}

/// `raw` in backticks, fit for a terminal and a title: controls escaped, and no longer than a line.
pub(super) fn quoted(raw: &str) -> String {
    const LONGEST: usize = 80;
    let text = printable(raw);
    if text.chars().count() <= LONGEST {
        return format!("`{text}`");
    }
    let head: String = text.chars().take(LONGEST).collect();
    format!("`{head}…`")
}

/// ", "-joined names in backticks.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(quoted).collect();
    names.join(", ")
}

/// The one of `names` that was probably meant by `written`.
pub(super) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (written.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// `span` cut to `source` and widened to whole characters, which the renderer relies on.
fn within(source: &str, span: &Range<usize>) -> Range<usize> {
    let mut start = span.start.min(source.len());
    let mut end = span.end.clamp(start, source.len());
    while !source.is_char_boundary(start) {
        start -= 1;
    }
    while !source.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

fn line_of(source: &str, offset: usize) -> usize {
    source[..offset].split('\n').count()
}
