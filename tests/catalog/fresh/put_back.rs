//! Whoever may write to the store puts back what isn't the newest, or takes the newest away:
//! that is 502 and counted, and stays so until the operator accepts it.

use std::{fs, path::PathBuf};

use serde_json::json;

use super::{ENFORCED, IN_A_FILE, assert_newest, checked, curl, enforced, quiet};
use crate::{
    site::{CALLER, Lab, meanwhile},
    standin::{ministack, under_keyring},
    support::{Answer, files_below, pattern},
};

/// An object as it lies in the folder: the sealed file, and what is beside it.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// The ways to read, as curl is told them.
const READS: [&[&str]; 3] = [&[], &["-I"], &["-r", "0-9"]];

#[test]
fn an_older_version_is_not_served_until_it_is_accepted() {
    let mut lab = enforced(IN_A_FILE).started();
    let first = pattern(300_000);
    let second: Vec<u8> = first.iter().map(|byte| !byte).collect();
    // What was proved of a range is kept, and must not stand for the object's being the newest.
    lab.put("report", &first);
    assert_eq!(range(&lab, "report").body, first[..10]);
    let old = taken(&lab, "report");
    lab.put("report", &second);
    let new = taken(&lab, "report");
    put(&lab, "report", &old);
    refused(&lab, "report");

    // Nor does what was proved of the newest, which is served whenever it is there.
    put(&lab, "report", &new);
    assert_eq!(range(&lab, "report").body, second[..10]);
    assert!(lab.get("report").body == second);
    put(&lab, "report", &old);
    refused(&lab, "report");
    assert_eq!(rolled_back(&lab), 2 * READS.len());

    let over = lab.try_put("report", b"third");
    assert!(matches!(over.status, 409 | 502), "{over:?}");
    assert!(detail(&over).contains("sealward catalog rebuild"), "{over:?}");
    assert!(taken(&lab, "report") == old, "what lies there is for the operator to look at");

    lab.kill();
    let (newest, words) = checked(&lab, "report");
    assert!(!newest && words.contains("not the recorded version"), "{words}");
    let words = rebuilt(&lab);
    assert!(words.contains("1 recorded, 0 removed, 0 unreadable"), "{words}");
    assert_newest(&lab, "report");
    lab.start();
    assert!(lab.get("report").body == first);
    assert_eq!(range(&lab, "report").body, first[..10]);
    assert_eq!(lab.put("report", b"third").status, 200);
    assert_eq!(lab.get("report").text(), "third");
    // The version that was the newest before is an older one now.
    put(&lab, "report", &new);
    refused(&lab, "report");
}

/// The same in a bucket, which is made good while it is served.
#[test]
fn a_bucket_rolled_back_is_not_served_until_it_is_accepted() {
    let (aws, bucket) = (ministack(), ministack().bucket("fresh-rolled-back"));
    let lab = quiet(Lab::of(aws.site(), &under_keyring(&bucket, ENFORCED), IN_A_FILE)).started();
    let copy = |from: &str, to: &str| {
        aws.does(json!({"do": "copy", "bucket": bucket, "key": from, "to": to}));
    };
    lab.put("other", b"in its place");
    lab.put("report", b"the first of them");
    copy("report", "aside");
    lab.put("report", b"the second of them");
    assert_eq!(range(&lab, "report").text(), "the second");
    assert_newest(&lab, "report");
    copy("aside", "report");
    aws.does(json!({"do": "delete", "bucket": bucket, "key": "aside"}));
    refused(&lab, "report");
    let over = lab.try_put("report", b"the third");
    assert!(matches!(over.status, 409 | 502), "{over:?}");
    assert!(detail(&over).contains("sealward catalog rebuild"), "{over:?}");
    assert!(!checked(&lab, "report").0);

    let words = rebuilt(&lab);
    assert!(words.contains("2 recorded, 0 removed, 0 unreadable"), "{words}");
    assert_newest(&lab, "report");
    assert_eq!(lab.get("report").text(), "the first of them");
    // What nothing had happened to is as it was.
    assert_eq!(lab.objects(&["--name", "other", "--by", CALLER]).len(), 1);
    assert_eq!(lab.put("report", b"the third").status, 200);
    assert_eq!(lab.get("report").text(), "the third");
}

/// Whoever uploads needn't wait for the operator: neither what is new meanwhile nor what takes
/// the place of another is lost from the catalogue.
#[test]
fn a_rebuild_beside_uploads_hides_none_of_them() {
    let (aws, bucket) = (ministack(), ministack().bucket("fresh-rebuilt"));
    let lab = quiet(Lab::of(aws.site(), &under_keyring(&bucket, ENFORCED), IN_A_FILE)).started();
    // It takes its time.
    (0..30).for_each(|number| drop(lab.put(&format!("old-{number}"), b"there before")));
    let writer = |client: usize, going: &dyn Fn() -> bool| {
        let mut taken = 0;
        while going() {
            taken += 1;
            let body = taken.to_string();
            lab.put(&format!("new-{client}-{taken}"), body.as_bytes());
            lab.put(&format!("old-{client}"), body.as_bytes());
        }
        taken
    };
    let taken = meanwhile(3, writer, || (0..3).for_each(|_| drop(rebuilt(&lab))));
    for (client, taken) in taken.into_iter().enumerate() {
        for number in 1..=taken {
            let found = lab.get(&format!("new-{client}-{number}"));
            assert_eq!(found.text(), number.to_string(), "{found:?}");
        }
        let found = lab.get(&format!("old-{client}"));
        assert_eq!(found.text(), taken.to_string(), "{found:?}");
    }
}

#[test]
fn what_was_removed_and_put_back_is_not_served() {
    let lab = enforced(IN_A_FILE).started();
    lab.put("contract", b"signed");
    let old = taken(&lab, "contract");
    assert_eq!(lab.remove("contract").status, 204);
    assert_eq!(lab.get("contract").status, 404);
    put(&lab, "contract", &old);
    refused(&lab, "contract");
    // Away again, it is what the catalogue says.
    take_away(&lab, "contract");
    assert_eq!(lab.get("contract").status, 404);
    assert_eq!(lab.put("contract", b"signed anew").status, 201);
    assert_eq!(lab.get("contract").text(), "signed anew");
    put(&lab, "contract", &old);
    refused(&lab, "contract");
}

#[test]
fn what_was_hidden_is_damage_and_not_absence() {
    let mut lab = enforced(IN_A_FILE).started();
    lab.put("contract", b"signed");
    lab.put("other", b"in its place");
    let hidden = taken(&lab, "contract");
    take_away(&lab, "contract");
    refused(&lab, "contract");
    assert_eq!(lab.get("other").text(), "in its place");
    assert_eq!(lab.get("never").status, 404, "what there never was is absent");
    put(&lab, "contract", &hidden);
    assert_eq!(lab.get("contract").text(), "signed");

    take_away(&lab, "contract");
    lab.kill();
    let (newest, words) = checked(&lab, "contract");
    assert!(!newest && words.contains("not the recorded version"), "{words}");
    let words = rebuilt(&lab);
    assert!(words.contains("1 removed, 0 unreadable"), "{words}");
    lab.start();
    assert_eq!(lab.get("contract").status, 404);
    assert_eq!(lab.get("other").text(), "in its place");
    put(&lab, "contract", &hidden);
    refused(&lab, "contract");
}

/// As when a class that was there before there was a catalogue comes to have one.
#[test]
fn what_the_catalogue_never_heard_of_is_served_once_it_is_recorded() {
    let mut lab = enforced(IN_A_FILE);
    let without = lab.site.serve("", "");
    lab.site.put(&without, "stranger", b"sealed by us");
    without.kill();
    lab.start();
    for way in READS {
        let answer = curl(&lab, "stranger", way);
        assert_eq!(answer.status, 502, "{way:?}: {answer:?}");
    }
    let words = detail(&lab.get("stranger"));
    assert!(words.contains("sealward catalog rebuild"), "{words}");

    lab.kill();
    let words = rebuilt(&lab);
    assert!(words.contains("1 recorded, 0 removed, 0 unreadable"), "{words}");
    lab.start();
    assert_eq!(lab.get("stranger").text(), "sealed by us");
    assert_eq!(lab.put("stranger", b"known").status, 200);
    assert_eq!(lab.get("stranger").text(), "known");
}

/// Every way of reading `name` is refused, and counted.
#[track_caller]
fn refused(lab: &Lab, name: &str) {
    let before = rolled_back(lab);
    for way in READS {
        let answer = curl(lab, name, way);
        assert_eq!(answer.status, 502, "{way:?}: {answer:?}");
    }
    assert_eq!(rolled_back(lab), before + READS.len(), "{}", lab.server().metrics());
}

fn rolled_back(lab: &Lab) -> usize {
    lab.count("sealward_tamper_total", &[("reason", "rolled_back")])
}

fn range(lab: &Lab, name: &str) -> Answer {
    let answer = curl(lab, name, &["-r", "0-9"]);
    assert_eq!(answer.status, 206, "{answer:?}");
    answer
}

/// The words of a refusal.
fn detail(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    answer.json()["detail"].as_str().expect("words").to_owned()
}

/// What `sealward catalog rebuild` says of the class; it must go well.
fn rebuilt(lab: &Lab) -> String {
    let output = lab.cli(["catalog", "rebuild", "--class", "records"]);
    let words = String::from_utf8([output.stdout, output.stderr].concat()).expect("is text");
    assert!(output.status.success(), "{}: {words}", output.status);
    words
}

/// A copy of the object `name`, which lies at the top of the folder.
fn taken(lab: &Lab, name: &str) -> Files {
    let files = files_of(lab, name).into_iter().map(|path| {
        let bytes = fs::read(&path).expect("reads");
        (path, bytes)
    });
    let files: Files = files.collect();
    assert_eq!(files.len(), 2, "a message and its sidecar: {:?}", files_of(lab, name));
    files
}

/// Lays a copy in the place of whatever stands there.
fn put(lab: &Lab, name: &str, files: &Files) {
    take_away(lab, name);
    for (path, bytes) in files {
        fs::write(path, bytes).expect("writes");
    }
}

fn take_away(lab: &Lab, name: &str) {
    for path in files_of(lab, name) {
        fs::remove_file(path).expect("removes");
    }
}

fn files_of(lab: &Lab, name: &str) -> Vec<PathBuf> {
    let own = format!("{name}.");
    let is_own = |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&own));
    files_below(&lab.site.objects()).into_iter().filter(is_own).collect()
}
