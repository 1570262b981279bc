//! `adopt`: what lay there in plain, sealed under the same names.

use std::fs;

use crate::{
    expect, pattern, run, snapshot,
    support::{Site, files_below},
};

#[test]
fn a_tree_is_sealed_and_nothing_is_overwritten() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "there/already", b"the class's own");
    server.stop();
    let plain = site.path("plain");
    let files = [
        ("empty", Vec::new()),
        ("small", b"small".to_vec()),
        ("there/already", b"not this".to_vec()),
        ("deep/er/large", pattern(20 << 20)),
        ("ä ö", b"names".to_vec()),
    ];
    for (name, bytes) in &files {
        let path = plain.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        fs::write(path, bytes).expect("writes");
    }
    let from = ["--from", plain.to_str().expect("is text")];
    let line = run(&site, "adopt", &from);
    let bytes = (20 << 20) + 5 + 5;
    assert_eq!(line.ended(0), format!("class records: 4 adopted, 1 skipped, 0 failed, {bytes} bytes"));
    for (name, bytes) in &files {
        assert!(fs::read(plain.join(name)).expect("is still there") == *bytes, "{name}");
    }
    assert_eq!(files_below(&plain).len(), files.len());
    let before = snapshot(&site);
    assert_eq!(run(&site, "adopt", &from).ended(0), "class records: 0 adopted, 5 skipped, 0 failed, 0 bytes");
    assert!(snapshot(&site) == before);
    run(&site, "verify", &[]).ended(0);

    let server = site.serve("", "");
    for (name, bytes) in &files {
        let bytes: &[u8] = if *name == "there/already" { b"the class's own" } else { bytes };
        expect(&site, &server, &name.replace(' ', "%20").replace('ä', "%C3%A4").replace('ö', "%C3%B6"), bytes);
    }
}

#[test]
fn what_can_t_be_adopted_is_reported_and_the_rest_is() {
    let site = Site::new();
    let plain = site.path("plain");
    fs::create_dir_all(plain.join(".sealward")).expect("makes");
    fs::write(plain.join(".sealward/x"), b"ours").expect("writes");
    fs::write(plain.join("line\nbreak"), b"control").expect("writes");
    fs::write(plain.join("good"), b"good").expect("writes");
    std::os::unix::fs::symlink(site.path("keyring.json"), plain.join("link")).expect("links");
    let line = run(&site, "adopt", &["--from", plain.to_str().expect("is text")]);
    assert_eq!(line.ended(1), "class records: 1 adopted, 0 skipped, 3 failed, 4 bytes", "{}", line.out);
    assert!(line.out.contains("link: ") && line.out.contains("reserved"), "{}", line.out);
}

#[test]
fn the_class_s_own_place_is_no_origin() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "in/a", b"a");
    server.stop();
    for from in [site.objects(), site.objects().join("in"), site.path("")] {
        let refused = run(&site, "adopt", &["--from", from.to_str().expect("is text")]);
        refused.ended(1);
        assert!(refused.words.contains("--from"), "{}", refused.words);
    }
    run(&site, "adopt", &["--from", "does-not-exist"]).ended(1);
    run(&site, "adopt", &[]).ended(2);
}
