//! One database for several Sealwards: replicas that start at once, and releases side by side.

use std::{collections::BTreeMap, fs, thread};

use crate::{
    engines::on_every,
    site::{Lab, meanwhile},
    standin::{moto, text, under_keyring},
    support::pattern,
};

#[test]
fn sealwards_that_start_at_once_on_an_empty_database_all_come_up() {
    on_every(|engine| {
        let labs: Vec<_> = (0..3).map(|_| Lab::new(&engine.catalog())).collect();
        for lab in &labs[1..] {
            fs::copy(labs[0].site.path("keyring.json"), lab.site.path("keyring.json")).expect("copies");
        }
        let labs: Vec<_> = thread::scope(|scope| {
            let starting: Vec<_> = labs.into_iter().map(|lab| scope.spawn(move || lab.started())).collect();
            starting.into_iter().map(|lab| lab.join().expect("it serves")).collect()
        });
        for (lab, name) in labs.iter().zip(["a", "b", "c"]) {
            lab.put(name, name.as_bytes());
        }
        for lab in &labs {
            assert_eq!(lab.names(), ["a", "b", "c"]);
        }
        let migrated = engine.sql("SELECT count(*), count(DISTINCT version) FROM _sqlx_migrations WHERE success");
        let (all, distinct) = migrated.split_once('\t').expect("two numbers");
        assert!(all == distinct && all != "0", "{migrated}");
    });
}

/// As it is while one replica after the other is renewed.
#[test]
fn a_newer_schema_keeps_this_release_from_nothing() {
    on_every(|engine| {
        let mut lab = Lab::new(&engine.catalog()).started();
        lab.put("before", b"1");
        let checksum = if engine.name() == "postgres" { "'\\x00'" } else { "x'00'" };
        engine.sql(&format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (99991231235959, 'of a later release', TRUE, {checksum}, 1)"
        ));
        engine.sql("ALTER TABLE objects ADD COLUMN of_a_later_release VARCHAR(64)");
        lab.put("beside", b"12");
        lab.restart();
        lab.put("after", b"123");
        assert_eq!(lab.put("before", b"1234").status, 200);
        for (name, size) in [("before", 4), ("beside", 2), ("after", 3)] {
            let rows = lab.objects(&["--name", name]);
            assert_eq!((rows.len(), &rows[0]["size"]), (1, &size.into()), "{name}");
        }
        assert_eq!(lab.list("")["objects"].as_array().map(Vec::len), Some(3));
    });
}

/// In a bucket, which takes several processes: what comes and what is replaced while the index is
/// made again stands in it as it is.
#[test]
fn a_rebuild_takes_nothing_from_uploads_beside_it() {
    let bucket = moto().bucket("rebuilt-beside");
    let config = under_keyring(&bucket, "canary = \"off\"");
    let lab = Lab::of(moto().site(), &config, "url = \"sqlite:catalog.db\"").started();
    for at in 0..20 {
        lab.put(&format!("old-{at:02}"), b"");
    }
    let upload = |client: usize, goes_on: &dyn Fn() -> bool| {
        let mut newest = BTreeMap::new();
        while goes_on() {
            let size = newest.len() + 1;
            for name in [format!("a-{client}-{size}"), format!("old-{client:02}")] {
                lab.put(&name, &pattern(size));
                newest.insert(name, size);
            }
        }
        newest
    };
    let newest = meanwhile(2, upload, || {
        for _ in 0..3 {
            let output = lab.cli(["catalog", "rebuild", "--class", "records"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
    let rows = lab.objects(&["--class", "records"]);
    let known: BTreeMap<_, _> = rows.iter().map(|row| (text(&row["name"]), &row["size"])).collect();
    assert!(newest.iter().all(|newest| newest.len() > 1), "{newest:?}");
    for (name, size) in newest.into_iter().flatten() {
        let found = known.get(&name).unwrap_or_else(|| panic!("{name} is taken for removed"));
        assert_eq!(**found, size, "{name}");
    }
}
