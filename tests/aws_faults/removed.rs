//! Removing every version, and what nobody finished.

use crate::{
    double::{BUCKET, Double, Fault, Pending, Version, World},
    site::{PREFIX, names, put, serve, serve_with},
    support::{Site, eventually, pattern},
};

const VERSIONS: &str = "delete = \"versions\"";

fn versions(double: &Double, key: &str) -> usize {
    double.world().objects.get(&format!("{PREFIX}{key}")).map_or(0, Vec::len)
}

#[test]
fn a_removal_that_broke_off_is_finished_by_the_next() {
    let site = Site::new();
    let double = Double::start(World { versioned: true, ..World::default() });
    let server = serve_with(&site, &double, VERSIONS, "");
    for length in [1000, 2000, 3000] {
        assert!(matches!(put(&site, &server, "k", &pattern(length), &[]).status, 200 | 201));
    }
    assert_eq!(put(&site, &server, "k-neighbour", &pattern(10), &[]).status, 201);
    assert_eq!(versions(&double, "k"), 3);
    let delete = |key: &str| site.curl(["-X", "DELETE", &server.url(key)]).status;
    double.plan("ListObjectVersions", 1, 1 << 20, Fault::Refuse(403, "AccessDenied"));
    assert_eq!(delete("k"), 503);
    double.calm();
    assert_eq!(site.get(&server, "k").status, 404, "its marker hides it");
    assert_eq!(versions(&double, "k"), 4, "and the versions are still there");
    assert_eq!(delete("k"), 204, "asked again, it goes on");
    assert_eq!(versions(&double, "k"), 0);
    assert_eq!(delete("k"), 404);
    assert_eq!(names(&double.world()), ["k-neighbour"]);
}

/// Another writer's object that comes between the marker and the versions stays.
#[test]
fn what_comes_after_the_marker_stays() {
    let site = Site::new();
    let double = Double::start(World { versioned: true, ..World::default() });
    let server = serve_with(&site, &double, VERSIONS, "");
    let tag = put(&site, &server, "k", &pattern(1000), &[]).header("etag").to_owned();
    double.plan(
        "ListObjectVersions",
        1,
        1,
        Fault::First(|world| {
            let key = format!("{PREFIX}k");
            let number = world.number();
            let newer = Version {
                id: format!("version-{number}"),
                marker: false,
                body: bytes::Bytes::from_static(b"another's"),
                etag: format!("\"{number:032x}\""),
                headers: vec![],
                sse: ("aws:kms".into(), None),
            };
            world.store(&key, newer);
        }),
    );
    let answer = site.curl(["-X", "DELETE", "-H", &format!("If-Match: {tag}"), &server.url("k")]);
    assert_eq!(answer.status, 204, "{answer:?}");
    let world = double.world();
    let left: Vec<_> = world.objects[&format!("{PREFIX}k")].iter().map(|version| version.body.clone()).collect();
    assert_eq!(left, [&b"another's"[..]]);
}

#[test]
fn a_canary_leaves_neither_version_nor_marker() {
    let site = Site::new();
    let double = Double::start(World { versioned: true, ..World::default() });
    let server = serve(&site, &double);
    assert!(double.world().objects.is_empty(), "{:?}", double.world().objects.keys().collect::<Vec<_>>());
    // An object's own removal leaves what the bucket keeps.
    assert_eq!(put(&site, &server, "k", &pattern(10), &[]).status, 201);
    assert_eq!(site.curl(["-X", "DELETE", &server.url("k")]).status, 204);
    assert_eq!(versions(&double, "k"), 2);
}

/// Only what is old, and below the class's own prefix.
#[test]
fn what_nobody_finished_is_aborted_when_it_is_old() {
    let site = Site::new();
    let uploads = [
        ("old", "records/old", "2020-01-01T00:00:00.000Z"),
        ("young", "records/young", "2999-01-01T00:00:00.000Z"),
        ("timeless", "records/timeless", ""),
        ("elsewhere", "letters/old", "2020-01-01T00:00:00.000Z"),
    ];
    let mut world = World::default();
    for (id, key, begun) in uploads {
        world.uploads.insert(id.into(), Pending { key: key.into(), begun: begun.into(), ..Pending::default() });
    }
    let double = Double::start(world);
    let server = serve_with(&site, &double, "exclusive = true\norphan_after = \"7d\"", "");
    eventually("the old one is gone", || !double.world().uploads.contains_key("old"));
    assert!(
        server.wait_for_line(|line| line.contains("uploads left unfinished were aborted")).contains("\"aborted\":1")
    );
    let left: Vec<_> = double.world().uploads.keys().cloned().collect();
    assert_eq!(left, ["elsewhere", "timeless", "young"]);
    assert_eq!(BUCKET, "vault");
    drop(server);

    // Without the word that the prefix is ours alone, nothing is looked for.
    let double = Double::start(World::default());
    double.world().uploads.insert("old".into(), Pending { key: "records/old".into(), ..Pending::default() });
    let server = serve(&site, &double);
    eventually("the probe has asked", || !double.asked("Probe").is_empty());
    assert!(double.asked("ListMultipartUploads").is_empty());
    drop(server);
}
