//! The alias that a class's key goes by is deleted, pointed to another key in haste, and then to its own.

use std::fs;

use serde_json::{Value, json};

use super::{Page, key_disabled::UNCACHED, readiness, refused_for_now};
use crate::{
    site::Lab,
    standin::{ministack, text, under_kms},
    support::eventually,
};

const ALIAS: &str = "alias/drill-deleted";

#[test]
fn without_its_alias_a_class_is_read_and_takes_uploads_once_that_names_the_same_key() {
    let page = Page::open("alias-deleted");
    let (aws, bucket) = (ministack(), ministack().bucket("drill-alias"));
    let (key, other) = (aws.key(), aws.key());
    aws.alias(ALIAS, &key);
    let config = under_kms(&bucket, ALIAS, "").replacen("provider = \"kms\"", UNCACHED, 1);
    let lab = Lab::of(aws.site(), &config, "url = \"sqlite:catalog.db\"").started();
    lab.put("report", b"before");

    aws.does(json!({"do": "forget_alias", "name": ALIAS}));
    let (unusable, why) = (page.shows("the key can't be used"), page.shows("NotFoundException"));
    lab.server().wait_for_line(|line| line.contains(unusable) && line.contains(why));
    let seen = readiness(&lab.site, lab.server());
    assert!(seen.status == 503 && seen.text().contains(ALIAS) && seen.text().contains(why), "{seen:?}");
    let refused = lab.try_put("new", b"after");
    assert_eq!(refused_for_now(&refused), page.shows("no data key can be had now; try again"));
    // KMS is asked by the key's ARN, which is in the object.
    let opened = || lab.count("sealward_kms_requests_total", &[("operation", "decrypt"), ("outcome", "ok")]);
    let before = opened();
    eventually("KMS opens it", || lab.get("report").text() == "before" && opened() > before);
    let config = fs::read_to_string(lab.file()).expect("reads");
    let log = lab.site.try_serve(&config, &[]).err().expect("it must not start");
    assert!(log.contains(why), "{log}");
    let check = page.run(&lab.site, "sealward check --config sealward.toml --online");
    assert!(check.code == Some(2) && check.words.contains(why), "{}", check.words);

    aws.alias(ALIAS, &other);
    let wrong = page.shows("which isn't among `read_keys`");
    eventually("it says so", || readiness(&lab.site, lab.server()).text().contains(wrong));
    refused_for_now(&lab.try_put("new", b"after"));

    let newest = page.does(&lab.site, "sealward objects --config sealward.toml --class records --limit 1 --json");
    let newest: Value = serde_json::from_str(newest.trim_end()).expect("one line");
    assert_eq!(newest["key"], key.as_str());
    aws.alias(ALIAS, &text(&newest["key"]));
    let again = page.shows("the key can be used again");
    lab.server().wait_for_line(|line| line.contains(again));
    assert_eq!(readiness(&lab.site, lab.server()).status, 200);
    lab.put("new", b"after");
    assert_eq!((lab.get("report").text(), lab.get("new").text()), ("before".to_owned(), "after".to_owned()));
    assert_eq!(lab.objects(&["--key", &key]).len(), 2);
    let verified = page.does(&lab.site, "sealward verify --config sealward.toml --class records");
    assert!(verified.contains("2 whole, 0 skipped, 0 failed"), "{verified}");
    page.finished();
}
