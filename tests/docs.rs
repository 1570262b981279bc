//! What the pages say and a machine can check: tests that are named exist, links
//! lead somewhere, tables are whole, and nothing points outside the tree.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn every_cant_names_tests_that_exist() {
    let page = read("docs/threat-model.md");
    let named = named_tests(&page);
    assert!(named.len() > 30, "the reader of test names reads nothing");
    let mut missing = Vec::new();
    for (place, test) in &named {
        let found = sources(&root().join(place)).iter().any(|text| text.contains(&format!("fn {test}(")));
        if !found {
            missing.push(format!("{place}::{test}"));
        }
    }
    assert!(missing.is_empty(), "docs/threat-model.md names tests that aren't there: {missing:#?}");

    let mut unshown = Vec::new();
    let mut cants = 0;
    let mut inside = false;
    for line in page.lines() {
        if !line.starts_with('|') {
            inside = false;
        } else if line.starts_with("| can't") {
            inside = true;
        } else if inside && !line.starts_with("|---") {
            cants += 1;
            let shown_by = line.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
            if named_tests(shown_by).is_empty() {
                unshown.push(line);
            }
        }
    }
    assert!(cants > 20, "the reader of tables reads nothing");
    assert!(unshown.is_empty(), "no test shows: {unshown:#?}");
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut links = 0;
    for page in pages() {
        let text = read(&page);
        for target in links_of(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(&page).parent().expect("a page has a folder");
            let file = if path.is_empty() { root().join(&page) } else { root().join(folder).join(path) };
            let there = file.exists()
                && (anchor.is_empty()
                    || headings(&fs::read_to_string(&file).unwrap_or_default()).contains(&anchor.to_owned()));
            if !there {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(links > 10, "the reader of links reads nothing");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn metrics_are_those_there_are() {
    let source = read("src/metrics.rs");
    let families = metrics_of(&source);
    assert!(families.len() > 15, "the reader of metrics reads nothing");
    for page in pages() {
        for name in metrics_of(&read(&page)) {
            assert!(families.contains(&name), "{page} names {name}, which src/metrics.rs hasn't got");
        }
    }
    // With their labels, as the documentation of each field has them.
    let readme = read("README.md");
    let documented: Vec<&str> =
        source.lines().filter_map(|line| line.trim().strip_prefix("/// `sealward_")?.strip_suffix('`')).collect();
    assert_eq!(documented.len(), families.len(), "each family's doc comment is its name and labels");
    for family in documented {
        assert!(readme.contains(&format!("| `sealward_{family}` |")), "README.md has no row for sealward_{family}");
    }
}

#[test]
fn every_dependency_has_its_row() {
    let readme = read("README.md");
    let section = readme.split("\n## Dependencies\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows: BTreeSet<&str> = section.expect("a section of dependencies").lines().filter_map(row_name).collect();
    let ours = dependencies(&read("Cargo.toml"));
    assert!(ours.len() > 30, "the reader of dependencies reads nothing");
    for name in &ours {
        assert!(rows.contains(name.as_str()), "README.md has no row for the dependency {name}");
    }
    let mut others = dependencies(&read("fuzz/Cargo.toml"));
    for list in
        ["tests/peers/requirements.txt", "tests/peers/requirements-cli.txt", "tests/peers/requirements-bench.txt"]
    {
        others.extend(read(list).lines().filter_map(|line| line.split_once("==")).map(|(name, _)| name.to_owned()));
    }
    for row in rows {
        assert!(ours.contains(row) || others.contains(row), "README.md has a row for {row}, which nothing depends on");
    }
}

#[test]
fn the_floors_are_drawn_as_they_are() {
    let page = read("docs/architecture.md");
    let contents = read("src/lib.rs");
    let mut rooms = 0;
    for line in contents.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let Some((floor, names)) = line.split_once(" | ") else { continue };
        for room in names.split("[`").skip(1).filter_map(|rest| rest.split('`').next()) {
            rooms += 1;
            let file = [format!("src/{room}.rs"), format!("src/{room}/mod.rs")];
            let file = file.iter().find(|file| root().join(file).exists()).expect("a room has a file");
            let text = read(file);
            let charter = text.lines().next().and_then(|line| line.strip_prefix("//! ")).expect("a first line");
            let row = format!("| {floor} | `{room}` | {charter} |");
            assert!(page.contains(&row), "docs/architecture.md should have: {row}");
        }
    }
    assert!(rooms > 10, "the reader of rooms reads nothing");
    let drawn = page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit()).count();
    assert_eq!(drawn, rooms, "docs/architecture.md has rooms that src/lib.rs hasn't");
}

#[test]
fn nothing_points_to_a_machine_or_a_registry() {
    // In pieces, so that this file may be looked at too.
    let wrong = [
        ["/wo", "rk/"],
        ["/ho", "me/"],
        ["/ro", "ot/"],
        ["/Us", "ers/"],
        ["/tmp/w", "t-"],
        ["index.crates", ".io"],
        ["static.crates", ".io"],
        ["spar", "se+"],
        ["files.python", "hosted.org"],
        ["pypi", ".org"],
        ["--index", "-url"],
        ["--extra-index", "-url"],
        ["gcr", ".io"],
        ["gh", "cr.io"],
        ["qu", "ay.io"],
        ["docker", ".io"],
        ["registry.np", "mjs"],
        ["proxy.go", "lang"],
    ]
    .map(|pieces| pieces.concat());
    let mut found = Vec::new();
    let files = tracked();
    assert!(files.len() > 50, "the list of files is empty");
    for file in files {
        let Ok(text) = String::from_utf8(fs::read(&file).unwrap_or_default()) else { continue };
        for (at, line) in text.lines().enumerate() {
            for text in wrong.iter().filter(|text| line.contains(text.as_str())) {
                found.push(format!("{}:{}: {text}", file.display(), at + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_readers_read() {
    assert_eq!(
        named_tests("x `tests/a.rs::b`, `src/c::d_1` and `other::e`, `tests/f.rs`"),
        [("tests/a.rs".to_owned(), "b".to_owned()), ("src/c".to_owned(), "d_1".to_owned())]
    );
    assert_eq!(links_of("[a](b.md#c) and [d](https://e) ![f](g) (h)"), ["b.md#c", "https://e", "g"]);
    assert_eq!(headings("# A b, c\n## `d` — e\n```\n# no\n```\n"), ["a-b-c", "d--e"]);
    let manifest =
        "[package]\nname = 1\n[dependencies]\n# no\na-b = \"1\"\n\n[dev-dependencies]\nc = 1\n[[bench]]\nd = 1\n";
    assert_eq!(dependencies(manifest).into_iter().collect::<Vec<_>>(), ["a-b", "c"]);
    assert_eq!(
        metrics_of("`sealward_a_total{b}` sealward_test.py sealward-c").into_iter().collect::<Vec<_>>(),
        ["sealward_a_total", "sealward_test"]
    );
    assert_eq!(row_name("| `a-b` | for | why |"), Some("a-b"));
    assert_eq!(row_name("| crate | for | why |"), None);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// README.md and docs/*.md, from the root.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).expect("reads") {
        let name = entry.expect("reads").file_name().into_string().expect("is text");
        if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            pages.push(format!("docs/{name}"));
        }
    }
    assert!(pages.len() > 4, "docs/ has its pages");
    pages
}

/// The text of a source file, or of every one below a folder.
fn sources(path: &Path) -> Vec<String> {
    if path.is_file() {
        return vec![fs::read_to_string(path).expect("reads")];
    }
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("reads").path());
    paths
        .filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "rs"))
        .flat_map(|p| sources(&p))
        .collect()
}

/// Files that are under version control; every file but what was built, where there is no git.
fn tracked() -> Vec<PathBuf> {
    let listed = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output();
    if let Ok(output) = listed
        && output.status.success()
        && !output.stdout.is_empty()
    {
        let names = String::from_utf8(output.stdout).expect("names are UTF-8");
        return names.split_terminator('\0').map(|name| root().join(name)).collect();
    }
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("reads") {
            let entry = entry.expect("reads");
            let name = entry.file_name();
            // In a work tree of git's, `.git` is a file, and names the machine's folders.
            if ["target", ".git", ".sealward", "artifacts", "__pycache__"].iter().any(|built| name == *built) {
                continue;
            }
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files
}

/// What stands between backticks as `tests/…::name` or `src/…::name`.
fn named_tests(text: &str) -> Vec<(String, String)> {
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .filter_map(|span| span.split_once("::"))
        .filter(|(place, _)| place.starts_with("tests/") || place.starts_with("src/"))
        .map(|(place, test)| (place.to_owned(), test.to_owned()))
        .collect()
}

fn links_of(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// The anchors of a page's headings, as the usual renderers make them.
fn headings(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with('#') {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            anchors.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    anchors
}

/// Every `sealward_…` name.
fn metrics_of(text: &str) -> BTreeSet<String> {
    let within = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let name = |rest: &str| rest.chars().take_while(|c| within(*c)).collect::<String>();
    text.split("sealward_").skip(1).map(|rest| format!("sealward_{}", name(rest))).collect()
}

/// The names below `[dependencies]` and `[dev-dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = matches!(line, "[dependencies]" | "[dev-dependencies]");
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.insert(name.trim().to_owned());
        }
    }
    names.remove("sealward");
    names
}

/// The name in a table row's first cell.
fn row_name(line: &str) -> Option<&str> {
    line.strip_prefix("| `")?.split('`').next()
}
