//! What the person on call looks at: rules, alerts, dashboards and the runbook, held to each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::standin::installed;

mod scraped;

const RULES: &str = "config/prometheus";
const BOARDS: &str = "config/grafana/dashboards";
const RECORDING: &str = "config/prometheus/recording.yml";
const ALERTS: &str = "config/prometheus/alerts.yml";
/// In `recording.yml` and `alerts.yml`: what promtool evaluates.
const TESTS: [&str; 2] = ["alerts_test.yml", "week_test.yml"];
/// What a dashboard lets one choose by, and its panels ask with.
const CHOICES: [&str; 7] = ["job", "instance", "key", "class", "route", "upstream", "secret"];
/// Labels whose values are words of the code.
const WORDS: [&str; 6] = ["outcome", "result", "state", "use", "operation", "reason"];
/// Families that are asked for by such a label: all that it says there, and the files that write it.
const WRITTEN: &[(&str, &str, &str, &[&str])] = &[
    ("sealward_kms_requests_total", "operation", "describe generate encrypt decrypt", &["keys/kms.rs"]),
    (
        "sealward_kms_requests_total",
        "outcome",
        "ok skipped throttled denied refused unusable unavailable error",
        &["keys/kms.rs"],
    ),
    ("sealward_data_key_uses_total", "use", "seal open", &["keys/cache.rs"]),
    (
        "sealward_data_key_cache_requests_total",
        "result",
        "hit miss derived_hit unwrap_hit unwrap_miss unwrap_refused",
        &["keys/cache.rs"],
    ),
    (
        "sealward_tamper_total",
        "reason",
        "foreign suite caps header commitment context message_id data_key unwrap frame length trailing metadata \
         rolled_back",
        &["fault.rs"],
    ),
    (
        "sealward_uploads_total",
        "outcome",
        "ok client refused too_large no_space unknown failed lost",
        &["objects/upload.rs"],
    ),
    ("sealward_buffer_memory_bytes", "state", "used kept total", &["app/mod.rs"]),
    ("sealward_buffer_waits_total", "outcome", "timeout no_place", &["objects/download.rs", "objects/upload.rs"]),
    (
        "sealward_store_request_duration_seconds",
        "operation",
        "probe put begin part complete stat read list delete",
        &["store/fs/mod.rs", "store/s3/upload.rs"],
    ),
    (
        "sealward_store_request_duration_seconds",
        "outcome",
        "ok not_found precondition conflict no_space name unavailable denied unknown damaged error unsent unanswered \
         throttled server range garbled",
        &["store/fs/mod.rs", "aws.rs"],
    ),
    (
        "sealward_connections_refused_total",
        "reason",
        "cap send_stall taken_back admin_send_stall",
        &["server/mod.rs", "server/connection.rs", "server/admin.rs"],
    ),
    ("sealward_access_log_lines_total", "outcome", "written dropped failed", &["door/access.rs"]),
    (
        "sealward_tls_handshake_duration_seconds",
        "outcome",
        "ok eof client_certificate failed timeout",
        &["server/connection.rs"],
    ),
    ("sealward_certificate_loads_total", "outcome", "published refused", &["tls/source.rs"]),
    ("sealward_client_trust_loads_total", "outcome", "published refused", &["tls/clients.rs"]),
    ("sealward_secret_refreshes_total", "outcome", "same new failed", &["secrets/mod.rs"]),
    (
        "sealward_catalog_records_total",
        "outcome",
        "written failed spooled replayed spoilt",
        &["catalog/writer.rs", "catalog/spool.rs"],
    ),
    ("sealward_config_reloads_total", "outcome", "taken refused", &["app/reload.rs"]),
];

#[test]
fn rules_hold_and_so_do_their_own_tests() {
    let folder = root().join(RULES);
    for args in [
        &["check", "config", "prometheus.yml"][..],
        &["check", "rules", "recording.yml", "alerts.yml"],
        &["test", "rules", TESTS[0], TESTS[1]],
    ] {
        let (good, words) = promtool(&folder, args);
        assert!(good && words.contains("SUCCESS"), "promtool {args:?}: {words}");
    }
}

/// Else the test above would say nothing.
#[test]
fn a_rule_that_cannot_be_read_or_says_something_else_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let (recording, alerts) = (read(RECORDING), read(ALERTS));
    for test in TESTS {
        fs::copy(root().join(RULES).join(test), folder.path().join(test)).expect("copies");
    }
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("writes");
    write("recording.yml", &replaced(&recording, "sum by (", "sum bye ("));
    let (good, words) = promtool(folder.path(), &["check", "rules", "recording.yml"]);
    assert!(!good && words.contains("could not parse expression"), "{words}");
    write("recording.yml", &recording);
    write("alerts.yml", &replaced(&alerts, "ratio_1w > 3\n", "ratio_1w > 1\n"));
    let (good, words) = promtool(folder.path(), &["test", "rules", TESTS[1]]);
    assert!(!good && words.contains("SealwardKeyUseFarAboveItsWeek"), "{words}");
}

#[test]
fn every_alert_has_a_time_at_which_it_fires_and_one_at_which_it_does_not() {
    let tests = TESTS.map(|test| read(&format!("{RULES}/{test}"))).concat();
    for Alert { name, .. } in alerts() {
        let series = format!("'ALERTS{{alertname=\"{name}\", alertstate=\"firing\"");
        let lines: Vec<&str> = tests.lines().filter(|line| line.contains(&series)).collect();
        assert!(lines.iter().any(|line| line.trim().starts_with("- { labels: ")), "{name} never fires");
        assert!(lines.iter().any(|line| line.ends_with("exp_samples: [] }")), "{name} is never quiet");
    }
}

// --- pages and dashboards -------------------------------------------------------------------

#[test]
fn every_alert_has_its_section_and_every_section_its_alert() {
    let page = read("docs/runbook.md");
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(|alert| &*alert.name).collect();
    assert!(names.len() > 20 && names.len() == alerts.len(), "each once: {names:?}");
    let sections: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(names, sections);
    for Alert { name, severity, words } in &alerts {
        let anchor = name.to_lowercase();
        let url = between(words, "runbook_url: \"", "\"");
        assert_eq!(url, format!("docs/runbook.md#{anchor}"), "{name}");
        for annotation in ["summary: ", "description: "] {
            assert!(words.contains(annotation), "{name} has no {annotation}");
        }
        assert!(matches!(&**severity, "page" | "ticket"), "{name}: {severity}");
        let row = format!("| [{name}](#{anchor}) | {severity} |");
        assert!(page.contains(&row), "the runbook's table has no {row}");
        let section = page.split_once(&format!("\n### {name}\n")).map_or("", |(_, rest)| rest);
        let section = section.split("\n#").next().unwrap_or_default();
        assert!(section.contains("**Means.**") && section.contains("**Look"), "{name}");
        assert!(section.contains("**Do") || section.contains("**do"), "{name}");
    }
}

#[test]
fn every_name_in_a_rule_or_a_panel_is_one_that_there_is() {
    let families = families();
    let recorded = recorded();
    let mut asked = BTreeSet::new();
    for (place, text) in texts() {
        for name in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c))) {
            // `:` is what the names of recording rules have.
            if name.trim_end_matches(':').contains(':') {
                assert!(recorded.contains(name), "{place} asks for {name}, which nothing records");
            } else if let Some(family) = family_of(name) {
                assert!(families.contains(family), "{place} asks for {family}, which src/metrics.rs hasn't got");
                asked.insert(family.to_owned());
            }
        }
    }
    // And somebody looks at each.
    assert_eq!(asked, families);
}

/// No label can be asked for a value that is never written, nor tried with one.
#[test]
fn every_label_and_its_words_are_those_that_the_code_writes() {
    for (family, label, words, files) in WRITTEN {
        let code = files.iter().map(|file| read(&format!("src/{file}"))).collect::<String>();
        for word in words.split(' ') {
            assert!(code.contains(&format!("\"{word}\"")), "{family}: {files:?} never writes {label} {word}");
        }
    }
    let families = labels();
    let tests = TESTS.map(|test| (test.to_owned(), read(&format!("{RULES}/{test}"))));
    let mut seen = 0;
    for (place, text) in texts().into_iter().chain(tests) {
        for (name, label, values) in matchers(&text) {
            let Some(family) = family_of(name) else { continue };
            let known = families.get(family).unwrap_or_else(|| panic!("{place} asks for {family}, which isn't there"));
            let of_any = ["job", "instance", "le"].contains(&label);
            assert!(of_any || known.contains(label), "{place}: {family} has no label {label}");
            if !WORDS.contains(&label) {
                continue;
            }
            let row = WRITTEN.iter().find(|(of, written, ..)| (*of, *written) == (family, label));
            let (_, _, words, _) = row.unwrap_or_else(|| panic!("{place}: nothing is known of {family}'s {label}"));
            for value in values.split('|') {
                // The beginning of several, or a whole one.
                let beginning = value.strip_suffix(".*");
                let is = |word: &str| beginning.map_or(word == value, |beginning| word.starts_with(beginning));
                assert!(words.split(' ').any(is), "{place}: {family}'s {label} is never {value}");
                seen += 1;
            }
        }
    }
    assert!(seen > 60, "the reader of labels reads nothing: {seen}");
}

#[test]
fn dashboards_are_whole() {
    let boards = boards();
    let names: Vec<&str> = boards.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["catalog.json", "edge.json", "keys.json", "uploads.json"]);
    for (name, board) in &boards {
        let uid = name.strip_suffix(".json").map(|name| format!("sealward-{name}"));
        assert_eq!(board["uid"].as_str(), uid.as_deref(), "it stays the same, whatever Grafana it comes to");
        assert!(board["id"].is_null() && board["schemaVersion"].as_u64() >= Some(36), "{name}");
        let choices = list(&board["templating"]["list"]);
        assert_eq!((&choices[0]["name"], &choices[0]["type"]), (&json!("datasource"), &json!("datasource")), "{name}");
        let chosen: Vec<&str> = choices.iter().filter_map(|choice| choice["name"].as_str()).collect();
        let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&board["panels"]) {
            let title = panel["title"].as_str().expect("a title");
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{name}: {title}: another has its id");
            let at = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
            assert!(at("x") + at("w") <= 24, "{name}: {title}: beyond the edge");
            for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(places.insert((x, y)), "{name}: {title}: another is in its place");
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(
                panel["description"].as_str().is_some_and(|words| words.len() > 10),
                "{name}: {title}: says nothing"
            );
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {title}: has no unit");
            for target in list(&panel["targets"]) {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{name}: {title}");
                let expr = target["expr"].as_str().expect("an expression");
                for word in expr.split('$').skip(1).filter(|word| !word.starts_with("__rate_interval")) {
                    let word: String = word.chars().take_while(char::is_ascii_alphanumeric).collect();
                    assert!(chosen.contains(&&*word), "{name}: {title}: ${word} can't be chosen");
                }
            }
        }
    }
    for provided in ["datasources/prometheus.yaml", "dashboards/sealward.yaml"] {
        let text = read(&format!("config/grafana/provisioning/{provided}"));
        assert!(text.contains("\napiVersion: 1\n"), "{provided}");
    }
}

// --- the real thing -------------------------------------------------------------------------

struct Alert {
    name: String,
    severity: String,
    /// All that stands in the file of it.
    words: String,
}

fn alerts() -> Vec<Alert> {
    let text = read(ALERTS);
    let alerts = text.split("\n      - alert: ").skip(1);
    alerts
        .map(|words| Alert {
            name: words.lines().next().unwrap_or_default().to_owned(),
            severity: between(words, "severity: ", " }").to_owned(),
            words: words.to_owned(),
        })
        .collect()
}

/// What stands left of each comparison: every alert is comparisons with numbers, joined by `and` or `or`.
fn compared(query: &str) -> Vec<String> {
    let comparisons = query.split(" and ").flat_map(|part| part.split(" or "));
    comparisons
        .map(|one| {
            let sides = one.split_once(" < ").or_else(|| one.split_once(" > "));
            sides.unwrap_or_else(|| panic!("`{one}` isn't compared with a number")).0.to_owned()
        })
        .collect()
}

/// The names of recording rules.
fn recorded() -> BTreeSet<String> {
    read(RECORDING).lines().filter_map(|line| line.trim().strip_prefix("- record: ")).map(str::to_owned).collect()
}

/// The families of `src/metrics.rs`.
fn families() -> BTreeSet<String> {
    let source = read("src/metrics.rs");
    let quoted = source.split('"').filter(|text| text.starts_with("sealward_"));
    let families: BTreeSet<String> =
        quoted.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')).map(str::to_owned).collect();
    assert!(families.len() > 40, "the reader of families reads nothing");
    families
}

/// The families with their labels.
fn labels() -> BTreeMap<String, BTreeSet<String>> {
    let source = read("src/metrics.rs");
    let families = source.split(" = \"sealward_").skip(1).map(|rest| {
        let name = rest.split('"').next().unwrap_or_default();
        let labels = between(rest, ", [", "]").split('"').skip(1).step_by(2);
        (format!("sealward_{name}"), labels.map(str::to_owned).collect())
    });
    families.collect()
}

/// Of every selector the name, and each label with what it is asked for.
fn matchers(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    text.match_indices('{').flat_map(move |(at, _)| {
        let before = &text[..at];
        let name = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || "_:".contains(c));
        let name = &before[name.len()..];
        let body = text[at + 1..].split('}').next().unwrap_or_default();
        body.split(',').filter_map(move |one| {
            let (label, value) = one.trim().split_once(['=', '!'])?;
            Some((name, label, value.split('"').nth(1)?))
        })
    })
}

/// The family that a name in an expression is of, if it is one of ours.
fn family_of(name: &str) -> Option<&str> {
    if !name.starts_with("sealward_") {
        return None;
    }
    let parts = ["_bucket", "_count", "_sum"];
    Some(parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name))
}

/// What of rules and dashboards may name a metric, with where it stands.
fn texts() -> Vec<(String, String)> {
    let rules = [RECORDING, ALERTS].map(|file| {
        let text = read(file);
        let lines = text.lines().filter(|line| !line.trim().starts_with('#') && !line.trim().starts_with("- name: "));
        (file.to_owned(), lines.collect::<Vec<_>>().join("\n"))
    });
    rules.into_iter().chain(panel_queries()).collect()
}

/// Every query of a dashboard: of its panels, its annotations and what can be chosen by, all of it chosen.
fn panel_queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for (name, board) in boards() {
        let mut add = |what: &Value, query: &Value| {
            let query = query.as_str().expect("a query").replace("$__rate_interval", "1m");
            let query = CHOICES.iter().fold(query, |query, choice| query.replace(&format!("${choice}"), ".*"));
            assert!(!query.contains('$'), "{name}: {query}");
            queries.push((format!("{name}: {}", what.as_str().unwrap_or_default()), query));
        };
        for panel in list(&board["panels"]).iter().filter(|panel| panel["type"] != "row") {
            for target in list(&panel["targets"]) {
                add(&panel["title"], &target["expr"]);
            }
        }
        for annotation in list(&board["annotations"]["list"]) {
            add(&annotation["name"], &annotation["expr"]);
        }
        for choice in list(&board["templating"]["list"]).iter().filter(|choice| choice["type"] == "query") {
            let definition = choice["definition"].as_str().expect("a definition");
            let (series, label) =
                between(definition, "label_values(", ")").rsplit_once(", ").expect("series and label");
            add(&choice["name"], &json!(format!("count by ({label}) ({series})")));
        }
    }
    queries
}

/// The dashboards by the names of their files.
fn boards() -> Vec<(String, Value)> {
    let entries = fs::read_dir(root().join(BOARDS)).expect("reads");
    let names = entries.map(|entry| entry.expect("reads").file_name().into_string().expect("is text"));
    let mut boards: Vec<_> = names
        .map(|name| {
            let board = serde_json::from_str(&read(&format!("{BOARDS}/{name}"))).expect("is JSON");
            (name, board)
        })
        .collect();
    boards.sort_by(|(one, _), (other, _)| one.cmp(other));
    boards
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// The first that stands between the two; empty when there is none.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).map_or("", |(found, _)| found)
}

/// With `by` in place of the first `what`, which must be there.
fn replaced(text: &str, what: &str, by: &str) -> String {
    assert!(text.contains(what), "no `{what}` in {text}");
    text.replacen(what, by, 1)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One of Prometheus's two programs: the one on PATH, or the one that `make test` has laid out.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| installed(&format!("prometheus/usr/bin/{name}")))
}

/// Runs promtool in `folder`: whether it is content, and its words.
fn promtool(folder: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(program("promtool")).args(args).current_dir(folder).output().expect("starts");
    (output.status.success(), said(&output))
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|words| String::from_utf8_lossy(words).into_owned()).concat()
}
