//! An object's name inside its class.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    config::LogObjectKeys,
    fault::{Fault, Kind},
};

/// Bytes of prefix and key together, as S3 bounds them.
pub const MAX_NAME: usize = 1024;

/// A key that may be used: 1 to [`MAX_NAME`] bytes of UTF-8, no empty segment
/// but a last one never, no dot segment, no control character, and not below
/// `.sealward/`, which is ours.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks `key` for a class whose names begin with `prefix`.
    ///
    /// # Errors
    /// 400 that says what is wrong with it, 414 when it is too long.
    pub fn new(key: &str, prefix: &str) -> Result<Self, Fault> {
        let bad = |what: &'static str| Err(Fault::bad_request(what));
        if key.is_empty() {
            return bad("the object has no name: add one to the path, or use POST and let the server choose \
                        (`curl -T -` needs a full URL)");
        }
        if key.len() + prefix.len() > MAX_NAME {
            return Err(Fault::new(
                Kind::UriTooLong,
                format!("the name is too long: {} bytes are left beside the class's prefix", MAX_NAME - prefix.len()),
            ));
        }
        if key.chars().any(char::is_control) {
            return bad("the name has a control character");
        }
        for segment in key.split('/') {
            match segment {
                "" => return bad("the name has an empty segment, or ends in a slash"),
                "." | ".." => return bad("the name has a dot segment"),
                _ => {}
            }
        }
        if key.split('/').next() == Some(".sealward") {
            return bad("names below .sealward/ are reserved");
        }
        Ok(Self(key.to_owned()))
    }

    /// A name of our own, below `.sealward/`.
    pub(super) fn reserved(rest: &str) -> Self {
        Self(format!(".sealward/{rest}"))
    }

    /// Whether it is one of our own.
    pub(super) fn is_reserved(&self) -> bool {
        self.0.starts_with(".sealward/")
    }

    /// A name out of a list, which was checked when it was stored.
    pub(super) fn listed(key: &str) -> Self {
        Self(key.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectKey(…)")
    }
}

/// The name `key` as it may stand in a log; `None` where it may not.
pub fn logged(key: &str, how: LogObjectKeys) -> Option<String> {
    match how {
        LogObjectKeys::Plain => Some(key.to_owned()),
        LogObjectKeys::Hashed => {
            let digest = digest(&SHA256, key.as_bytes());
            Some(hex::encode(&digest.as_ref()[..8]))
        }
        LogObjectKeys::Omitted => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged() {
        for good in ["a", "a/b", "ä/ö", "...", "a.b", "x/.sealward/y", &"k".repeat(1021)] {
            assert!(ObjectKey::new(good, "in/").is_ok(), "{good}");
        }
        for (bad, status) in [
            ("", 400),
            ("/a", 400),
            ("a/", 400),
            ("a//b", 400),
            (".", 400),
            ("a/../b", 400),
            ("a\0b", 400),
            ("a\nb", 400),
            (".sealward", 400),
            (".sealward/x", 400),
            (&"k".repeat(1022), 414),
        ] {
            let fault = ObjectKey::new(bad, "in/").expect_err(bad);
            assert_eq!(fault.status().as_u16(), status, "{bad}");
        }
    }
}
