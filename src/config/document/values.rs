//! What a key's value may be: text, numbers, durations, sizes, paths, addresses.

use std::{
    fmt::Display,
    net::SocketAddr,
    ops::{Range, RangeInclusive},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::{Found, Section, is_inserted, is_text};
use crate::config::{
    report::{Fault, listed, nearest, quoted},
    units::{self, Unreadable, show_duration, show_size},
};

impl<'a> Section<'a> {
    /// A string, expanded.
    pub(in crate::config) fn string(&self, key: &'static str) -> Option<Found<String>> {
        let (value, span) = self.value(key)?;
        if !is_text(value) {
            return self.mistyped(key, &span, value, "a string", &format!("put it in quotes: `{key} = \"…\"`"));
        }
        self.text(value, &span)
    }

    /// A list of strings, expanded. Entries with a fault are left out.
    pub(in crate::config) fn strings(&self, key: &'static str) -> Option<Vec<Found<String>>> {
        let help = format!("write strings in brackets: `{key} = [\"…\", \"…\"]`");
        let (value, span) = self.value(key)?;
        let DeValue::Array(list) = value else {
            return self.mistyped(key, &span, value, "a list of strings", &help);
        };
        let entries = list.iter().filter_map(|entry| match entry.get_ref() {
            text if is_text(text) => self.text(text, &entry.span()),
            other => self.mistyped(key, &entry.span(), other, "a list of strings", &help),
        });
        Some(entries.collect())
    }

    /// A whole number within `range`; also a string with a placeholder that gives one.
    pub(in crate::config) fn integer(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let help = format!("write a whole number without quotes: `{key} = {}`", range.start().max(&1));
        let (value, span) = self.value(key)?;
        let number = match value {
            // What doesn't parse is negative or too large, so out of any range.
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            text if is_inserted(text) => match self.text(text, &span)?.value.parse() {
                Ok(number) => Some(number),
                Err(_) => return self.misread(key, &span, "a whole number", &help),
            },
            other => return self.mistyped(key, &span, other, "a whole number", &help),
        };
        self.bounded(key, &span, number, &range, u64::to_string)
    }

    /// `true` or `false`; also a string with a placeholder that gives one.
    pub(in crate::config) fn boolean(&self, key: &'static str) -> Option<bool> {
        let help = format!("write `{key} = true` or `{key} = false`, without quotes");
        let (value, span) = self.value(key)?;
        match value {
            DeValue::Boolean(value) => Some(*value),
            text if is_inserted(text) => match self.text(text, &span)?.value.as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => self.misread(key, &span, "`true` or `false`", &help),
            },
            other => self.mistyped(key, &span, other, "`true` or `false`", &help),
        }
    }

    /// A duration within `range`.
    pub(in crate::config) fn duration(&self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let help = format!("write a whole number and a unit (ms, s, m, h, d) in quotes, such as `{key} = \"10s\"`");
        let (value, span) = self.value(key)?;
        let read = match value {
            DeValue::Integer(_) => Err(Unreadable::NoUnit),
            text if is_text(text) => units::duration(&self.text(text, &span)?.value),
            other => return self.mistyped(key, &span, other, "a duration", &help),
        };
        match read {
            Ok(duration) => self.bounded(key, &span, Some(duration), &range, |value| show_duration(*value)),
            Err(Unreadable::TooLarge) => {
                self.bounded(key, &span, None, &range, |value: &Duration| show_duration(*value))
            }
            Err(Unreadable::NoUnit) => {
                let label = "a number without a unit";
                self.fault(Fault::new(format!("`{key}` is a duration and needs a unit"), help).at(&span, label));
                None
            }
            Err(Unreadable::Malformed) => self.misread(key, &span, "a duration", &help),
        }
    }

    /// A size in bytes within `range`.
    pub(in crate::config) fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<Found<u64>> {
        let help = format!(
            "write a number of bytes, or a whole number and a unit (KiB, MiB, GiB, TiB, KB, MB, GB, TB) in quotes, \
             such as `{key} = \"{}\"`",
            show_size(*range.start().max(&1024))
        );
        let (value, span) = self.value(key)?;
        let (read, raw) = match value {
            DeValue::Integer(number) => {
                let bytes = u64::from_str_radix(number.as_str(), number.radix());
                (bytes.map_err(|_| Unreadable::TooLarge), number.to_string())
            }
            text if is_text(text) => {
                let found = self.text(text, &span)?;
                (units::size(&found.value), found.raw)
            }
            other => return self.mistyped(key, &span, other, "a size", &help),
        };
        let bytes = match read {
            Ok(bytes) => Some(bytes),
            Err(Unreadable::TooLarge) => None,
            Err(_) => return self.misread(key, &span, "a size", &help),
        };
        let value = self.bounded(key, &span, bytes, &range, |bytes| show_size(*bytes))?;
        Some(Found { value, raw, span })
    }

    /// A path; a relative one stands below the file's folder.
    pub(in crate::config) fn path(&self, key: &'static str) -> Option<Found<PathBuf>> {
        let Found { value, raw, span } = self.string(key)?;
        if value.is_empty() || value.contains('\0') {
            let help = "write a path; a relative one starts at the folder of this file";
            self.fault(Fault::new(format!("`{key}` is no path"), help).at(&span, "empty, or with a NUL in it"));
            return None;
        }
        Some(Found { value: self.document.base.join(value), raw, span })
    }

    /// A path, or what is below the file's folder by default.
    pub(in crate::config) fn path_or(&self, key: &'static str, default: &str) -> PathBuf {
        self.path(key).map_or_else(|| self.document.base.join(default), |found| found.value)
    }

    /// A list of paths, or one.
    pub(in crate::config) fn paths(&self, key: &'static str) -> Option<Vec<PathBuf>> {
        if self.is_string(key) || self.is_reference(key) {
            return self.path(key).map(|path| vec![path.value]);
        }
        let paths = self.strings(key)?;
        Some(paths.into_iter().map(|path| self.document.base.join(path.value)).collect())
    }

    /// A list of networks; those with a fault are left out, and the fault stands.
    pub(in crate::config) fn networks(&self, key: &'static str) -> Vec<IpNet> {
        let found = self.strings(key).unwrap_or_default();
        let network = |network: Found<String>| {
            let parsed = network.value.parse::<IpNet>().ok();
            // An address alone is a network of one.
            let parsed = parsed.or_else(|| network.value.parse::<std::net::IpAddr>().ok().map(IpNet::from));
            if parsed.is_none() {
                let title = format!("`{}` is no network", network.raw);
                let fault = Fault::new(title, "write it as `10.0.0.0/8`, `fd00::/8`, or one address");
                self.fault(fault.at(&network.span, "not a network"));
            }
            parsed
        };
        found.into_iter().filter_map(network).collect()
    }

    /// A table of strings under names of the writer's choice.
    pub(in crate::config) fn entries(&self, key: &'static str) -> Option<Vec<(String, Found<String>)>> {
        let help = format!("write names and values: `{key} = {{ name = \"…\" }}`");
        let (value, span) = self.value(key)?;
        let DeValue::Table(table) = value else {
            return self.mistyped(key, &span, value, "a table of strings", &help);
        };
        let entry = |(name, value): (&Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            match value.get_ref() {
                text if is_text(text) => Some((name.to_string(), self.text(text, &value.span())?)),
                other => self.mistyped(key, &value.span(), other, "a table of strings", &help),
            }
        };
        Some(table.iter().filter_map(entry).collect())
    }

    /// An IP address and a port.
    pub(in crate::config) fn address(&self, key: &'static str) -> Option<Found<SocketAddr>> {
        let Found { value, raw, span } = self.string(key)?;
        if let Ok(value) = value.parse() {
            return Some(Found { value, raw, span });
        }
        let help = "write an IP address and a port, such as `\"127.0.0.1:8443\"`, `\"0.0.0.0:8443\"` for all of IPv4, \
                    or `\"[::]:8443\"`; names are not looked up";
        self.misread(key, &span, "an IP address and a port", help)
    }

    /// One of a few names.
    pub(in crate::config) fn one_of<T: Copy>(&self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let found = self.string(key)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == found.value) {
            return Some(*value);
        }
        let names = || choices.iter().map(|(name, _)| *name);
        let help = match nearest(&found.raw, names()) {
            Some(name) => format!("did you mean `{name}`? What fits: {}", listed(names())),
            None => format!("write one of {}", listed(names())),
        };
        let title = format!("`{key}` cannot be {}", quoted(&found.raw));
        self.fault(Fault::new(title, help).at(&found.span, "not one of its values"));
        None
    }

    /// The right type, and yet not readable as what is `wanted`.
    fn misread<T>(&self, key: &str, span: &Range<usize>, wanted: &str, help: &str) -> Option<T> {
        let title = format!("`{key}` in {} is not {wanted}", self.title);
        self.fault(Fault::new(title, help).at(span, format!("not {wanted}")));
        None
    }

    /// `value` if within `range`; `None` as a value is beyond any range.
    fn bounded<T: PartialOrd, S: Display>(
        &self,
        key: &str,
        span: &Range<usize>,
        value: Option<T>,
        range: &RangeInclusive<T>,
        show: impl Fn(&T) -> S,
    ) -> Option<T> {
        if let Some(value) = value.filter(|value| range.contains(value)) {
            return Some(value);
        }
        let (least, most) = (show(range.start()), show(range.end()));
        let title = format!("`{key}` in {} is out of range", self.title);
        self.fault(Fault::new(title, format!("write {least} to {most}")).at(span, "out of range"));
        None
    }
}
