//! The house stands on floors: a room uses the floors below its own, and knows
//! neither its neighbours nor what is above.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Each room and its floor: the one place where that is written, beside `src/lib.rs`.
const FLOORS: [&[&str]; 8] = [
    &["budget", "clock", "fault", "proof", "replace", "secret", "shelf", "trace"],
    &["aws", "config", "index", "message", "metrics"],
    &["collector", "keys", "secrets", "store", "tls", "upstream"],
    &["http", "identity", "objects"],
    &["catalog", "gateway", "proxy", "quota", "rework"],
    &["door", "server"],
    &["app"],
    &["cli"],
];

#[test]
fn rooms_use_lower_floors_alone() {
    let floors = floors();
    let mut wrong = Vec::new();
    let mut imports = 0;
    for (room, file) in rooms() {
        let own = floors.get(room.as_str()).unwrap_or_else(|| panic!("{room} has no floor: write it into FLOORS"));
        let text = fs::read_to_string(&file).expect("reads");
        for (used, line) in used(&text) {
            imports += 1;
            let floor = floors.get(used.as_str()).unwrap_or_else(|| panic!("{file:?}: {used} is no room"));
            if used != room && floor >= own {
                wrong.push(format!("{}:{line}: {room} (floor {own}) uses {used} (floor {floor})", file.display()));
            }
        }
    }
    assert!(imports > 50, "the reader of imports reads nothing");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_contents_says_the_same() {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("reads");
    for (floor, rooms) in FLOORS.iter().enumerate() {
        let row =
            text.lines().find(|line| line.starts_with(&format!("//! | {floor} |"))).expect("a row for each floor");
        for room in *rooms {
            assert!(row.contains(&format!("[`{room}`]")), "lib.rs, floor {floor}: {room}");
            assert!(text.contains(&format!("\npub mod {room};")), "lib.rs declares {room}");
        }
        assert_eq!(row.matches("[`").count(), rooms.len(), "lib.rs, floor {floor} has other rooms");
    }
    let declared = text.lines().filter(|line| line.starts_with("pub mod ")).count();
    assert_eq!(declared, FLOORS.iter().map(|rooms| rooms.len()).sum::<usize>());
}

#[test]
fn the_reader_finds_every_kind_of_import() {
    let text = "use crate::keys::X;\nuse crate::{\n    fault::{Fault, Kind},\n    store,\n    http::{self, Body},\n};\n\
                fn f() { crate::tls::g(); }\n// crate::cli in a comment\n";
    let found: Vec<String> = used(text).into_iter().map(|(room, _)| room).collect();
    assert_eq!(found, ["keys", "fault", "store", "http", "tls"]);
}

fn floors() -> BTreeMap<&'static str, usize> {
    FLOORS.iter().enumerate().flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor))).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file with its room.
fn rooms() -> Vec<(String, PathBuf)> {
    let src = root().join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("reads") {
            let path = entry.expect("reads").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let room = room_of(path.strip_prefix(&src).expect("is below src"));
                if !matches!(room.as_str(), "lib" | "main") {
                    found.push((room, path));
                }
            }
        }
    }
    found
}

fn room_of(path: &Path) -> String {
    let first = path.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that `text` names after `crate::`, with the line of each.
fn used(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push((name(rest), line)),
            Some(list) => {
                let mut depth = 0;
                let mut begin = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begin = true,
                        c if begin && depth == 0 && c.is_alphabetic() => {
                            begin = false;
                            found.push((name(&list[at..]), line + list[..at].matches('\n').count()));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

fn name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
