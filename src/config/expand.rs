//! `${NAME}` and `${file:/path}` inside string values.
//!
//! What comes out may be a secret, so no fault here or elsewhere in this room
//! repeats it.

use std::{
    env::{self, VarError},
    fs::File,
    io::Read as _,
    path::Path,
};

use super::report::quoted;

/// Where `${NAME}` looks. [`process`] everywhere but in tests.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

/// Why a value can't be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unexpanded {
    /// What is wrong, naming the placeholder as written.
    pub(super) title: String,
    /// How to mend it.
    pub(super) help: String,
}

/// The process's own environment.
pub(super) fn process(name: &str) -> Result<String, VarError> {
    env::var(name)
}

/// Replaces each `${…}` in `raw`, once: what comes in is not looked at again.
/// `$${` stands for `${`. Files in relative paths lie below `base`.
pub(super) fn expand(raw: &str, base: &Path, environment: Environment<'_>) -> Result<String, Unexpanded> {
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            value.push_str(&rest[..at - 1]);
            value.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        value.push_str(&rest[..at]);
        let Some((inside, after)) = rest[at + 2..].split_once('}') else {
            return Err(Unexpanded {
                title: format!("`${{` in {} is not closed", quoted(raw)),
                help: "close it with `}`; a literal `${` is written `$${`".into(),
            });
        };
        value.push_str(&match inside.strip_prefix("file:") {
            Some(path) => content(inside, path, base)?,
            None => variable(inside, environment)?,
        });
        rest = after;
    }
    value.push_str(rest);
    Ok(value)
}

fn variable(name: &str, environment: Environment<'_>) -> Result<String, Unexpanded> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(fits) {
        return Err(Unexpanded {
            title: format!("{} is no placeholder", placeholder(name)),
            help: "write `${NAME}` for an environment variable or `${file:/path}` for a file's content; \
                   a literal `${` is written `$${`"
                .into(),
        });
    }
    environment(name).map_err(|error| match error {
        VarError::NotPresent => Unexpanded {
            title: format!("the environment variable {} is not set", quoted(name)),
            help: "set it where sealward is started, or write the value here".into(),
        },
        VarError::NotUnicode(_) => Unexpanded {
            title: format!("the environment variable {} is not UTF-8", quoted(name)),
            help: "set it to UTF-8 text".into(),
        },
    })
}

fn content(inside: &str, path: &str, base: &Path) -> Result<String, Unexpanded> {
    /// Far more than any one value; keeps `/dev/zero` from filling the memory.
    const MOST: u64 = 64 << 10;

    let written = placeholder(inside);
    let unreadable = |why: String| Unexpanded {
        title: format!("{written} can't be read: {why}"),
        help: "the path must name a file of UTF-8 text, up to 64 KiB, that sealward may read".into(),
    };
    if path.is_empty() {
        return Err(unreadable("no path is given".into()));
    }
    let mut bytes = Vec::new();
    File::open(base.join(path))
        .and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MOST {
        return Err(unreadable("it is larger than 64 KiB".into()));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".into()))?;
    // One, not all: a value may end in a line feed of its own.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn placeholder(inside: &str) -> String {
    quoted(&format!("${{{inside}}}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop")]

    use super::*;

    fn environment(name: &str) -> Result<String, VarError> {
        match name {
            "HOST" => Ok("example".into()),
            "ODD" => Ok("${HOST}".into()),
            _ => Err(VarError::NotPresent),
        }
    }

    fn expanded(raw: &str) -> Result<String, Unexpanded> {
        expand(raw, Path::new("/nonexistent"), &environment)
    }

    #[test]
    fn placeholders_are_replaced_once() {
        for (raw, value) in [
            ("", ""),
            ("plain $ text {x}", "plain $ text {x}"),
            ("${HOST}", "example"),
            ("a${HOST}b${HOST}", "aexamplebexample"),
            ("${ODD}", "${HOST}"),
            ("$${HOST}", "${HOST}"),
            ("é$${", "é${"),
            ("$$${HOST}", "$${HOST}"),
        ] {
            assert_eq!(expanded(raw).unwrap(), value, "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        for (raw, title) in [
            ("${HOST", "`${` in `${HOST` is not closed"),
            ("${}", "`${}` is no placeholder"),
            ("${1X}", "`${1X}` is no placeholder"),
            ("${A B}", "`${A B}` is no placeholder"),
            ("${NONE}", "the environment variable `NONE` is not set"),
            ("${file:}", "`${file:}` can't be read: no path is given"),
            ("${file:/dev/zero}", "`${file:/dev/zero}` can't be read: it is larger than 64 KiB"),
        ] {
            assert_eq!(expanded(raw).unwrap_err().title, title, "{raw}");
        }
        let missing = expanded("${file:none}").unwrap_err().title;
        assert!(missing.starts_with("`${file:none}` can't be read: No such file"), "{missing}");
    }

    #[test]
    fn a_file_loses_one_line_feed() {
        let folder = tempfile::tempdir().unwrap();
        for (content, value) in [("a", "a"), ("a\n", "a"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("", "")] {
            std::fs::write(folder.path().join("value"), content).unwrap();
            assert_eq!(expand("<${file:value}>", folder.path(), &environment).unwrap(), format!("<{value}>"));
        }
        std::fs::write(folder.path().join("value"), b"\xff").unwrap();
        let fault = expand("${file:value}", folder.path(), &environment).unwrap_err();
        assert!(fault.title.ends_with("it is not UTF-8 text"));
    }
}
