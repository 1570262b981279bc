//! `reencrypt` against an S3 that misbehaves: another writer wins, and what is cut short is begun again.

use std::{fs, process::Stdio};

use crate::{
    double::{Double, Fault, OURS, THEIRS, World},
    site::{MIB, PREFIX, config, names, put, serve},
    support::{Site, eventually, pattern},
};

/// The class moves from one of the double's keys to the other.
fn moving() -> String {
    let read = format!("read_keys = [\"{OURS}\", \"{THEIRS}\"]");
    config(&read, "").replace(&format!("kms_key = \"{OURS}\""), &format!("kms_key = \"{THEIRS}\""))
}

fn begin(site: &Site, double: &Double) -> std::process::Child {
    let path = site.path("rework.toml");
    fs::write(&path, moving()).expect("writes");
    let mut command = site.command();
    command.envs(double.environment()).args(["reencrypt", "--class", "records", "--config"]).arg(path);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

/// Its last line, which it ends with.
fn ended(child: std::process::Child) -> String {
    let output = child.wait_with_output().expect("ends");
    String::from_utf8(output.stdout).expect("is text").lines().last().unwrap_or_default().to_owned()
}

fn usurp(world: &mut World) {
    let key = format!("{PREFIX}k");
    let mut version = world.current(&key).cloned().expect("stands there");
    version.etag = format!("\"{:032x}\"", world.number());
    world.store(&key, version);
}

#[test]
fn another_writer_wins() {
    let site = Site::new();
    for (op, length) in [("PutObject", 1000), ("CompleteMultipartUpload", 20 * MIB)] {
        let double = Double::start(World::default());
        let server = serve(&site, &double);
        assert_eq!(put(&site, &server, "k", &pattern(length), &[]).status, 201);
        drop(server);
        // The proof before it begins stores a canary, and is refused two more.
        let before = if op == "PutObject" { 4 } else { 1 };
        double.plan(op, before, 1, Fault::First(usurp));
        // Theirs stays, and is sealed anew in its turn: nothing is left under the old key.
        let line = format!("class records: 1 sealed anew, 0 skipped, 0 failed, {length} bytes");
        assert_eq!(ended(begin(&site, &double)), line, "{op}");
        let version = double.world().current(&format!("{PREFIX}k")).cloned().expect("stands there");
        assert_eq!(version.sse.1.as_deref(), Some(THEIRS), "{op}");
        assert!(double.world().uploads.is_empty() && double.all_hit(), "{op}");
        double.calm();

        // One that is faster each time is not passed over in silence.
        let server = serve(&site, &double);
        assert_eq!(put(&site, &server, "k", &pattern(length), &[]).status, 200);
        drop(server);
        double.plan(op, before, 1 << 20, Fault::First(usurp));
        let line = ended(begin(&site, &double));
        assert_eq!(line, "class records: 0 sealed anew, 0 skipped, 1 failed, 0 bytes", "{op}");
        let version = double.world().current(&format!("{PREFIX}k")).cloned().expect("stands there");
        assert_eq!(version.sse.1.as_deref(), Some(OURS), "{op}: theirs stands there");
    }
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_ended() {
    const OBJECTS: usize = 12;
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve(&site, &double);
    for number in 0..OBJECTS {
        assert_eq!(put(&site, &server, &format!("k-{number:02}"), &pattern(1000 + number), &[]).status, 201);
    }
    drop(server);
    let moved = || {
        let world = double.world();
        let all = world.objects.values().filter_map(|versions| versions.last());
        all.filter(|version| version.sse.1.as_deref() == Some(THEIRS)).count()
    };
    double.plan("PutObject", 1, 1 << 20, Fault::Slow(150));
    let mut child = begin(&site, &double);
    eventually("some are done", || moved() >= 4);
    child.kill().expect("kills");
    child.wait().expect("ends");
    double.calm();
    let done = moved();
    assert!(done < OBJECTS, "it was cut short");
    let line = ended(begin(&site, &double));
    assert!(line.starts_with("class records: ") && line.contains(", 0 failed, "), "{line}");
    assert_eq!(names(&double.world()).len(), OBJECTS);
    assert!(moved() >= OBJECTS);
    let server = site.serve_among(&moving(), &double.environment());
    for number in 0..OBJECTS {
        assert!(site.get(&server, &format!("k-{number:02}")).body == pattern(1000 + number));
    }
}
