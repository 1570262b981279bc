//! What must hold between `[keys]` and the classes' names of keys.

use std::ops::Range;

use super::{
    Class,
    document::Section,
    report::{Fault, quoted},
};

/// Whether `arn` is a KMS key's own ARN: not an alias, not a bare id.
pub fn is_key_arn(arn: &str) -> bool {
    let mut parts = arn.splitn(6, ':');
    let mut filled = || parts.next().is_some_and(|part| !part.is_empty());
    let prefix = filled() && filled() && filled() && filled() && filled();
    prefix
        && arn.starts_with("arn:")
        && arn.split(':').nth(2) == Some("kms")
        && parts.next().is_some_and(|resource| resource.strip_prefix("key/").is_some_and(|id| !id.is_empty()))
}

/// The faults of a class's names of keys under KMS.
/// With a `catalog`, what an alias has resolved to is kept there.
pub(super) fn check(section: &Section<'_>, class: &Class, catalog: bool, span: &Range<usize>) {
    let fault = |title: String, help: &str| section.fault(Fault::new(title, help).at(span, "in this class"));
    if class.write_key.is_some() {
        fault(
            "`write_key` names a key of a local keyring, and `[keys]` says `kms`".into(),
            "leave it out; `kms_key` names the key that seals",
        );
    }
    let Some(key) = &class.kms_key else {
        return fault(
            "a `[[class]]` under `provider = \"kms\"` lacks `kms_key`".into(),
            "add `kms_key = \"alias/…\"` or the key's ARN",
        );
    };
    if !is_key_arn(key) && !key.starts_with("alias/") && !key.contains(":alias/") {
        fault(
            format!("{} is no KMS key", quoted(key)),
            "write a key's ARN (`arn:aws:kms:REGION:ACCOUNT:key/ID`) or an alias (`alias/NAME`)",
        );
    }
    match &class.read_keys {
        None if !is_key_arn(key) && !catalog => fault(
            "an alias may be pointed elsewhere, and `read_keys` doesn't say which keys may open".into(),
            "add `read_keys = [\"arn:aws:kms:…:key/…\"]` with the ARN of every key that sealed objects of this class, \
             or a `[catalog]`, which keeps them",
        ),
        Some(keys) => {
            for key in keys.iter().filter(|key| !is_key_arn(key)) {
                fault(
                    format!("{} in `read_keys` is no KMS key's ARN", quoted(key)),
                    "under KMS, `read_keys` are `arn:aws:kms:REGION:ACCOUNT:key/ID`, never aliases",
                );
            }
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::is_key_arn;

    #[test]
    fn arns_are_told_from_aliases() {
        assert!(is_key_arn("arn:aws:kms:eu-west-1:111122223333:key/mrk-1234"));
        for other in [
            "alias/a",
            "arn:aws:kms:eu-west-1:111122223333:alias/a",
            "arn:aws:s3:eu-west-1:111122223333:key/a",
            "arn:aws:kms:::key/a",
            "arn:aws:kms:eu-west-1:111122223333:key/",
            "1234",
            "",
        ] {
            assert!(!is_key_arn(other), "{other}");
        }
    }
}
