//! `seal`, `open` and `inspect`: the same format without a server.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    run,
    support::{Site, files_below, pattern, sealward},
};

fn text(path: &Path) -> &str {
    path.to_str().expect("is text")
}

/// `bytes` sealed under the site's keyring, through pipes.
fn sealed(site: &Site, bytes: &[u8]) -> Vec<u8> {
    run(["seal", "--keyring", text(&site.path("keyring.json"))], bytes).ok()
}

fn count_of_wraps(site: &Site) -> u64 {
    let counts = fs::read(site.path("keyring.json.wraps")).expect("is there");
    let counts: serde_json::Value = serde_json::from_slice(&counts).expect("is JSON");
    counts["test/key-1"].as_u64().expect("a count")
}

#[test]
fn what_is_sealed_opens_through_files_and_pipes() {
    let site = Site::new();
    let keyring = site.path("keyring.json");
    let [plain, at_rest, again] = ["plain", "at-rest", "again"].map(|name| site.path(name));
    for length in [0, 1, 262_143, 262_144, 262_145, 1 << 20, 3_000_001] {
        let bytes = pattern(length);
        fs::write(&plain, &bytes).expect("writes");
        run(["seal", "--keyring", text(&keyring), text(&plain), "-o", text(&at_rest)], b"").ok();
        run(["open", "--keyring", text(&keyring), text(&at_rest), "--output", text(&again)], b"").ok();
        assert!(fs::read(&again).expect("reads") == bytes, "{length} through files");
        let through = run(["open", "--keyring", text(&keyring), "-", "-o", "-"], &sealed(&site, &bytes)).ok();
        assert!(through == bytes, "{length} through pipes");
    }
    assert_eq!(count_of_wraps(&site), 14, "one for each message");
}

#[test]
fn context_and_frame_length_are_as_asked() {
    let site = Site::new();
    let keyring = site.path("keyring.json");
    let asked =
        ["seal", "--keyring", text(&keyring), "--context", "a=1", "--context", "b=x=y", "--frame-length", "4096"];
    let message = run(asked, &pattern(10_000)).ok();
    let header: serde_json::Value = serde_json::from_slice(&run(["inspect"], &message).ok()).expect("is JSON");
    assert_eq!(header["suite"], "0x0478");
    assert_eq!((&header["encryption_context"]["a"], &header["encryption_context"]["b"]), (&"1".into(), &"x=y".into()));
    assert_eq!(header["data_keys"][0]["provider"], "test");
    assert_eq!(header["data_keys"][0]["key"], "key-1");
    assert_eq!((&header["frame_length"], &header["plaintext_length"]), (&4096.into(), &10_000.into()));
    assert!(header["message_id"].is_string());
    run(["seal", "--keyring", text(&keyring), "--context", "none"], b"x").failed(2);
}

#[test]
fn open_leaves_no_plaintext_when_it_is_killed() {
    let site = Site::new();
    let (keyring, output) = (site.path("keyring.json"), site.path("output"));
    let whole = sealed(&site, &pattern(8_000_000));
    let files = || files_below(site.folder.path());
    for older in [None, Some(b"older")] {
        if let Some(older) = older {
            fs::write(&output, older).expect("writes");
        }
        let before = files();
        for signal in ["-INT", "-TERM", "-KILL"] {
            let mut child = sealward()
                .args(["open", "--keyring", text(&keyring), "-o", text(&output)])
                .stdin(Stdio::piped())
                .spawn()
                .expect("starts");
            let mut stdin = child.stdin.take().expect("a pipe");
            // All but what the pipe holds was read, and most of that written.
            stdin.write_all(&whole[..6_000_000]).expect("takes it");
            let id = child.id().to_string();
            assert!(Command::new("kill").args([signal, &id]).status().expect("runs").success());
            assert!(!child.wait().expect("ends").success(), "{signal}");
            assert_eq!(files(), before, "{signal} left something behind");
        }
        run(["open", "--keyring", text(&keyring), "-o", text(&output)], &whole).ok();
        assert!(fs::read(&output).expect("reads") == pattern(8_000_000));
        assert_eq!(files().len(), before.len() + usize::from(older.is_none()));
    }
}

#[test]
fn damage_leaves_no_output_and_exits_1() {
    let site = Site::new();
    let keyring = site.path("keyring.json");
    let whole = sealed(&site, &pattern(1_000_000));
    let (input, output) = (site.path("input"), site.path("output"));
    let before = files_below(site.folder.path()).len() + 1;
    for what in ["header", "frame", "final", "truncated", "more"] {
        let mut damaged = whole.clone();
        match what {
            "header" => damaged[60] ^= 1,
            "frame" => damaged[500_000] ^= 1,
            "final" => *damaged.last_mut().expect("bytes") ^= 1,
            "truncated" => damaged.truncate(600_000),
            _ => damaged.push(0),
        }
        fs::write(&input, &damaged).expect("writes");
        let words = run(["open", "--keyring", text(&keyring), text(&input), "-o", text(&output)], b"").failed(1);
        assert!(words.contains(text(&input)), "{what}: {words}");
        assert_eq!(files_below(site.folder.path()).len(), before, "{what} left something behind");
        run(["open", "--keyring", text(&keyring)], &damaged).failed(1);
    }
    fs::write(&output, "older").expect("writes");
    run(["open", "--keyring", text(&keyring), text(&input), "-o", text(&output)], b"").failed(1);
    assert_eq!(fs::read(&output).expect("reads"), b"older", "what stood there stays");
}

#[test]
fn standard_output_gets_verified_frames_alone() {
    let site = Site::new();
    let bytes = pattern(1_000_000);
    let mut message = sealed(&site, &bytes);
    message.truncate(600_000);
    let ran = run(["open", "--keyring", text(&site.path("keyring.json"))], &message);
    assert_eq!(ran.code, 1, "{}", ran.words);
    assert!(ran.out.len() < bytes.len() && bytes.starts_with(&ran.out), "{} bytes", ran.out.len());
}

#[test]
fn nonsense_is_refused_in_words() {
    let site = Site::new();
    let keyring = site.path("keyring.json");
    for input in [&b""[..], b"\x02", b"hello, world", &[0; 4096], &[2; 10_000], &[0xff; 3]] {
        for command in [&["open", "--keyring", text(&keyring)][..], &["inspect"]] {
            let words = run(command, input).failed(1);
            assert!(words.starts_with("error: standard input: "), "{words}");
        }
    }
    for (path, why) in [(site.path("nothing"), "No such file"), (site.path("tls"), "folder")] {
        let words = run(["open", "--keyring", text(&keyring), text(&path)], b"").failed(2);
        assert!(words.contains(text(&path)) && words.contains(why), "{words}");
    }
    let words = run(["open", "--keyring", text(&site.path("tokens.json")), "-"], b"").failed(2);
    assert!(words.contains("tokens.json"), "{words}");
}

#[test]
fn another_keyring_opens_nothing() {
    let (site, other) = (Site::new(), Site::new());
    fs::write(site.path("m"), sealed(&site, b"mine")).expect("writes");
    let words = run(["open", "--keyring", text(&other.path("keyring.json")), text(&site.path("m"))], b"").failed(1);
    // Same namespace and name, another key: only the wrapped key tells.
    assert!(words.contains("verify"), "{words}");
}

#[test]
fn an_object_of_a_class_opens_as_itself_alone() {
    let site = Site::new();
    let config = site.path("sealward.toml");
    let more = "[[class]]\nname = \"other\"\ndirectory = \"others\"\n";
    let server = site.serve("", more);
    let bytes = pattern(300_000);
    site.put(&server, "folder/a.bin", &bytes);
    drop(server);
    let at_rest = site.objects().join("folder/a.bin.sealed");
    let open = |class: &str, key: &str| {
        run(["open", "--config", text(&config), "--class", class, "--key", key, text(&at_rest)], b"")
    };
    assert!(open("records", "folder/a.bin").ok() == bytes);
    open("records", "folder/b.bin").failed(1);
    open("other", "folder/a.bin").failed(1);
    let words = open("record", "folder/a.bin").failed(2);
    assert!(words.contains("no class `record`") && words.contains("other, records"), "{words}");
    // With the keyring alone any message of it opens: that is what the keyring is for.
    let any = run(["open", "--keyring", text(&site.path("keyring.json")), text(&at_rest)], b"").ok();
    assert!(any == bytes);
    run(["open", "--config", text(&config), text(&at_rest)], b"").failed(2);
}

#[test]
fn what_seal_makes_for_a_class_is_that_object() {
    let site = Site::new();
    let config = site.path("sealward.toml");
    fs::write(&config, Site::config("", "")).expect("writes");
    let under = ["--config", text(&config), "--class", "records", "--key", "k"];
    let message = run(["seal"].iter().chain(&under), b"bound").ok();
    assert_eq!(run(["open"].iter().chain(&under), &message).ok(), b"bound");
    let other = ["open", "--config", text(&config), "--class", "records", "--key", "l"];
    run(other, &message).failed(1);
}

/// 64 MiB through two pipes, and the most that was resident looked at before the end.
#[test]
fn large_input_streams_in_little_memory() {
    const PIECE: usize = 1 << 20;
    let site = Site::new();
    let keyring = site.path("keyring.json");
    let piece = pattern(PIECE);
    let message = site.path("message");
    for (command, pieces) in [("seal", Some(64)), ("open", None)] {
        let output = site.path(command);
        let mut child = sealward()
            .args([command, "--keyring", text(&keyring)])
            .stdin(Stdio::piped())
            .stdout(File::create(&output).expect("makes"))
            .spawn()
            .expect("starts");
        let mut stdin = child.stdin.take().expect("is piped");
        match pieces {
            Some(count) => (0..count).for_each(|_| stdin.write_all(&piece).expect("takes")),
            None => {
                let mut from = File::open(&message).expect("is there");
                let mut buffer = vec![0; PIECE];
                while let count @ 1.. = from.read(&mut buffer).expect("reads") {
                    stdin.write_all(&buffer[..count]).expect("takes");
                }
            }
        }
        // It waits for more, with all but a pipe's worth behind it.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("Linux");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(peak < 32 << 10, "{command} had {peak} KiB resident");
        drop(stdin);
        assert!(child.wait().expect("ends").success());
        fs::rename(&output, &message).expect("moves");
    }
    assert!(fs::read(&message).expect("reads") == piece.repeat(64));
}
