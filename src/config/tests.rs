#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::{env::VarError, path::Path};

use super::*;

mod certificates;
mod examples;
mod secrets;

/// The whole example, which the documentation points to.
const EXAMPLE: &str = include_str!("../../config/sealward.toml");

/// Twenty lines that are well; the tables below break one thing each.
const GOOD: &str = r#"[[listener]]
bind = "127.0.0.1:8443"
tls = { source = { files = { cert = "cert.pem", key = "key.pem" } } }

[keys]
provider = "local"
keyring = "keyring.json"

[[class]]
name = "records"
directory = "objects"

[[route]]
path = "/files/"
seal = { class = "records" }

[identity]
tokens = "tokens.json"

[limits]
"#;

fn environment(name: &str) -> Result<String, VarError> {
    match name {
        "PORT" => Ok("9000".into()),
        "TRUE" => Ok("true".into()),
        "SECRET" => Ok("Hunter2-Is-Secret".into()),
        _ => Err(VarError::NotPresent),
    }
}

fn parse(text: &str) -> Result<Config, Faults> {
    read::whole(&Text::new(text, "sealward.toml", Path::new("/etc/sealward")), &environment)
}

fn broken(text: &str) -> Faults {
    match parse(text) {
        Ok(_) => panic!("was taken:\n{text}"),
        Err(faults) => faults,
    }
}

fn tls_of(config: &Config) -> &Tls {
    config.listeners[0].tls.as_ref().expect("TLS")
}

/// Exactly one fault, at `line`, with these words in its title and help.
fn assert_fault(text: &str, line: Option<usize>, title: &str, help: &str) {
    let faults = broken(text);
    let report = faults.to_string();
    assert_eq!(faults.len(), 1, "{title}:\n{report}");
    let fault = faults.iter().next().unwrap();
    assert_eq!(fault.line(), line, "{report}");
    assert!(fault.title().contains(title), "{title}:\n{report}");
    assert!(fault.help().contains(help), "{help}:\n{report}");
    if let Some(line) = line {
        assert!(report.contains(&format!("sealward.toml:{line}:")), "{report}");
    }
}

/// An example with every `# key = value` made a line of its own.
fn uncommented(example: &str) -> String {
    let key = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        // A whole section that isn't there by default.
        if rest == "[traces]" {
            return Some(rest.to_owned());
        }
        let (key, _) = rest.split_once(" = ")?;
        key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| rest.to_owned())
    };
    example.lines().map(|line| key(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn the_good_one_is_read() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.listeners[0].bind.port(), 8443);
    let CertificateSource::Files { cert, refresh, .. } = &tls_of(&config).certificates[0].source else {
        panic!("no files")
    };
    assert_eq!(cert, Path::new("/etc/sealward/cert.pem"));
    assert_eq!(*refresh, Duration::from_secs(10));
    assert_eq!(tls_of(&config).policy, TlsPolicy::Tls13);
    let class = config.class("records").unwrap();
    assert_eq!((class.vault.as_str(), class.prefix.as_str()), ("records", ""));
    assert_eq!((class.frame_length, class.max_size), (256 << 10, 1 << 40));
    assert_eq!(class.place, Place::Directory("/etc/sealward/objects".into()));
    assert_eq!((class.binding, class.metadata, class.canary), (Binding::MessageId, Metadata::Sealed, Canary::Full));
    let Action::Seal { class } = &config.routes[0].action else { panic!("not sealed") };
    assert_eq!(class, "records");
    assert_eq!(config.identity.tokens, Some(Tokens::File("/etc/sealward/tokens.json".into())));
    assert_eq!(config.limits.max_part, 64 << 20);
    assert_eq!(config.class_names(), BTreeSet::from(["records"]));
}

#[test]
fn a_small_memory_makes_small_parts() {
    let config = parse(&format!("{GOOD}buffer_memory = \"32MiB\"\n")).unwrap();
    assert_eq!(config.limits.max_part, 8 << 20);
}

#[test]
fn what_kms_and_a_bucket_take() {
    let good = r#"[[listener]]
bind = "127.0.0.1:8443"
tls = { source = { files = { cert = "cert.pem", key = "key.pem" } } }

[keys]
provider = "kms"

[[class]]
name = "records"
kms_key = "alias/records"
read_keys = ["arn:aws:kms:eu-west-1:111122223333:key/1"]
bucket = "records"

[[route]]
path = "/files/"
seal = { class = "records" }

[identity]
tokens = "tokens.json"
"#;
    let config = parse(good).unwrap();
    let Place::Bucket(bucket) = &config.classes[0].place else { panic!("no bucket") };
    assert_eq!((bucket.sse, bucket.require_sse_kms, bucket.delete), (Sse::Kms, true, Delete::Marker));
    assert_eq!((bucket.exclusive, bucket.orphan_after), (false, Duration::from_secs(7 * 86_400)));

    for (old, new, line, title, help) in [
        ("provider = \"kms\"", "provider = \"kms\"\nkeyring = \"k\"", 7, "KMS takes no `keyring`", "local"),
        ("bucket = ", "write_key = \"a\"\nbucket = ", 8, "`write_key` names a key of a local keyring", "`kms_key`"),
        ("kms_key = \"alias/records\"", "", 8, "lacks `kms_key`", "alias/"),
        ("\"alias/records\"", "\"records\"", 8, "`records` is no KMS key", "an alias"),
        ("read_keys = [\"arn:aws:kms:eu-west-1:111122223333:key/1\"]", "", 8, "doesn't say which keys", "`read_keys"),
        (":key/1\"", ":alias/1\"", 8, "is no KMS key's ARN", "never aliases"),
        ("bucket = \"records\"", "bucket = \"a b\"", 12, "`a b` is no bucket", "or an ARN"),
        ("bucket = ", "directory = \"d\"\nbucket = ", 12, "not in both", "leave one out"),
        ("bucket = ", "sse = \"aws:kmss\"\nbucket = ", 12, "`sse` cannot be", "did you mean `aws:kms`?"),
        ("bucket = ", "require_sse_kms = \"no\"\nbucket = ", 12, "must be `true` or `false`", "quotes"),
        ("bucket = ", "delete = \"all\"\nbucket = ", 12, "`delete` cannot be `all`", "`marker`, `versions`"),
        ("bucket = ", "exclusive = 1\nbucket = ", 12, "must be `true` or `false`", "quotes"),
        ("bucket = ", "orphan_after = \"23h\"\nbucket = ", 12, "out of range", "write 1d to 365d"),
        ("bucket = ", "orphan_after = 7\nbucket = ", 12, "needs a unit", "10s"),
    ] {
        assert!(good.contains(old), "{old}");
        assert_fault(&good.replacen(old, new, 1), Some(line), title, help);
    }

    let class = |prefix: &str| {
        let class =
            "[[class]]\nname = \"b\"\nkms_key = \"arn:aws:kms:eu-west-1:111122223333:key/2\"\nbucket = \"records\"\n";
        format!("{good}{class}prefix = \"{prefix}\"\n")
    };
    let faults = broken(&class("in/"));
    assert_eq!(faults.len(), 1, "{faults}");
    assert!(faults.to_string().contains("two classes store in one place"), "{faults}");
    let beside = class("in/").replacen("bucket = ", "prefix = \"out/\"\nbucket = ", 1);
    parse(&beside).unwrap();
}

#[test]
fn the_renders_show_the_place() {
    let faults = broken(&GOOD.replace("bind =", "bnd ="));
    let plain = faults.render(false);
    assert!(plain.contains("--> sealward.toml:2:1"), "{plain}");
    assert!(plain.contains("bnd = \"127.0.0.1:8443\""), "{plain}");
    assert!(plain.contains("help: did you mean `bind`?"), "{plain}");
    assert!(plain.ends_with("2 faults in sealward.toml"), "{plain}");
    assert_eq!(plain, faults.to_string());
    assert!(!plain.contains('\u{1b}'));
    assert!(faults.render(true).contains('\u{1b}'));
}

#[test]
fn six_faults_are_six() {
    let text = GOOD
        .replace("127.0.0.1:8443", "localhost")
        .replace("\"local\"", "\"lokal\"")
        .replace("name = \"records\"", "name = \"records\"\nprefix = \"in\"")
        .replace("\"/files/\"", "\"/files\"")
        .replace("class = \"records\"", "class = \"recrods\"")
        + "idle_timeout = 60\n";
    let faults = broken(&text);
    let lines: Vec<_> = faults.iter().filter_map(Fault::line).collect();
    assert_eq!(lines, [2, 6, 11, 15, 16, 22], "{faults}");
}

#[test]
fn expanded_values_are_used_and_never_repeated() {
    let text = GOOD.replace(":8443", ":${PORT}") + "uploads = \"${PORT}\"\nmin_body_rate = \"${PORT}\"\n";
    let text = text.replace("path = ", "public = \"${TRUE}\"\npath = ");
    let config = parse(&text).unwrap();
    assert_eq!(
        (config.listeners[0].bind.port(), config.limits.uploads, config.limits.min_body_rate),
        (9000, 9000, 9000)
    );
    assert!(config.routes[0].public);

    // In every string of the file, and so in every fault about a value.
    let whole = uncommented(EXAMPLE);
    let mut faults = 0;
    for (at, line) in whole.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
        for value in ["\"${SECRET}\"", "\"/${SECRET}\"", "[\"${SECRET}\", \"${SECRET}\"]"] {
            let mut lines: Vec<_> = whole.lines().map(str::to_owned).collect();
            lines[at] = format!("{key} = {value}");
            if let Err(found) = parse(&lines.join("\n")) {
                faults += found.len();
                let words = format!("{:?}", found.iter().collect::<Vec<_>>());
                for text in [found.render(false), found.render(true), format!("{found:?}"), words] {
                    assert!(!text.to_lowercase().contains("hunter2"), "{text}");
                }
            }
        }
    }
    assert!(faults > 80, "{faults}");
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let title = |path: &Path| {
        let faults = Config::load(path).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults.to_string().contains("--> "), "{faults}");
        faults.iter().next().unwrap().title().to_owned()
    };
    assert!(title(&folder.path().join("none.toml")).starts_with("there is no configuration file"));
    assert!(title(folder.path()).ends_with("is a folder, not a configuration file"));
    let file = folder.path().join("sealward.toml");
    std::fs::write(&file, b"a = 1\nb = \"\xff\"\n").unwrap();
    assert!(title(&file).ends_with("is not UTF-8: see line 2"));
    std::fs::write(&file, GOOD).unwrap();
    let keyring = Config::load(&file).unwrap().keys.map(|keys| keys.provider);
    let Some(KeyProvider::Local { keyring }) = keyring else { panic!("no keys") };
    assert_eq!(keyring, folder.path().join("keyring.json"));
}

#[test]
fn a_slip_in_an_address_shows_no_password() {
    for slip in ["postgres://app:Hunter2@db:5x/n", "mysql://app:Hunter2@db", "postgres:/app:Hunter2@db/n"] {
        let text = uncommented(EXAMPLE).replace("sqlite:catalog.db", slip);
        let report = broken(&text).to_string();
        assert!(report.contains("`url` is no address") && !report.contains("Hunter2"), "{report}");
    }
}

#[test]
fn one_line_changed_is_one_fault() {
    // What is replaced, by what, the fault's line, its title, its help.
    for (old, new, line, title, help) in [
        // Syntax, and the kinds of values.
        ("bind = \"127.0.0.1:8443\"", "bind = 127.0.0.1:8443", 2, "not TOML", "in double quotes"),
        ("keyring =", "provider = \"local\"\nkeyring =", 7, "duplicate key", "written once"),
        ("[keys]", "[keys", 5, "not TOML", "`[section]`"),
        ("[limits]", "[limts]", 20, "unknown key `limts` in the file", "did you mean `limits`?"),
        ("[limits]", "[audit]", 20, "unknown key `audit`", "what fits in the file: `admin`, `catalog`, `class`"),
        ("[limits]", "[catalog]", 20, "[catalog] names no database", "`url = \"sqlite:catalog.db\"`"),
        ("[limits]", "[catalog]\nurl = \"db\"", 20, "`url` is no address", "`sqlite:PATH`"),
        ("[limits]", "[catalog]\nsecret = \"db\"", 21, "there is no `[[secret]]` `db`", "add a `[[secret]]`"),
        ("[limits]", "[catalog]\nurl = \"sqlite:a\"\nspool = \"b\"", 22, "`spool` is for", "write that too"),
        ("[limits]", "[catalog]\nurl = \"mysql://u:p@h/n\"\ntls = \"no\"", 22, "cannot be `no`", "`plaintext`"),
        ("directory =", "freshness = \"enforce\"\ndirectory =", 9, "needs a catalogue", "add `[catalog]`"),
        ("directory =", "binding = 1\ndirectory =", 11, "must be a string", "`binding = \"…\"`"),
        ("path = ", "public = \"yes\"\npath = ", 14, "must be `true` or `false`", "without quotes"),
        ("[keys]", "[[keys]]", 5, "`keys` in the file must be a table", "write `[keys]`"),
        ("[[route]]", "[route]", 13, "must be a list of tables", "write `[[route]]`"),
        ("directory =", "read_names = \"old\"\ndirectory =", 11, "must be a list of strings", "in brackets"),
        ("seal = { class = \"records\" }", "seal = \"records\"", 15, "must be a table", "[route.seal]"),
        ("\"/files/\"", "\"${NONE}\"", 14, "variable `NONE` is not set", "set it where"),
        ("\"/files/\"", "\"${NONE\"", 14, "is not closed", "`$${`"),
        ("\"objects\"", "\"${file:/none/x}\"", 11, "`${file:/none/x}` can't be read", "UTF-8 text"),
        ("\"objects\"", "\"\"", 11, "`directory` is no path", "write a path"),
        // Listeners.
        ("127.0.0.1:8443", "localhost:8443", 2, "not an IP address and a port", "0.0.0.0:8443"),
        ("127.0.0.1:8443", "127.0.0.1:9464", 2, "two listeners have one bind address", "a port of its own"),
        ("bind = \"127.0.0.1:8443\"", "", 1, "lacks `bind`", "add `bind = "),
        ("files = {", "policy = \"tls13\", files = {", 3, "unknown key `policy` in `listener.tls.source`", "`files`"),
        ("tls = { ", "tls = { policy = \"tls1.3\", ", 3, "`policy` cannot be `tls1.3`", "did you mean `tls13`?"),
        (
            "tls = { ",
            "tls = { policy = \"ELBSecurityPolicy-2016-08\", ",
            3,
            "policy `ELBSecurityPolicy-2016-08` can't be honoured",
            "`ELBSecurityPolicy-TLS13-1-2-Res-2021-06`, its nearest",
        ),
        ("tls = { ", "tls = { policy = \"ELBSecurityPolicy-TLS13-1-2-2021-06\", ", 3, "can't be honoured", "CBC"),
        ("tls = { ", "tls = { policy = \"ELBSecurityPolicy-TLS13-1-3-FIPS-2023-04\", ", 3, "can't be honoured", "FIPS"),
        ("key = \"key.pem\"", "refresh = \"1s\"", 3, "lacks `key`", "add `key = "),
        ("key = \"key.pem\"", "key = \"key.pem\", refresh = \"0s\"", 3, "out of range", "write 1ms to 1d"),
        ("tls = {", "proxy_protocol = { from = [\"10.0.0.0/33\"] }\ntls = {", 3, "is no network", "10.0.0.0/8"),
        ("tls = {", "proxy_protocol = { from = [] }\ntls = {", 3, "`from` is empty", "leave `proxy_protocol` out"),
        ("tls = {", "proxy_protocol = { }\ntls = {", 3, "lacks `from`", "10.0.0.0/8"),
        // Keys.
        ("keyring =", "region = \"eu-west-1\"\nkeyring =", 7, "the local keyring has no `region`", "leave it out"),
        ("\"local\"", "\"locl\"", 6, "`provider` cannot be `locl`", "did you mean `local`?"),
        ("keyring = \"keyring.json\"", "", 5, "lacks `keyring`", "add `keyring"),
        ("keyring =", "max_age = \"6m\"\nkeyring =", 7, "`max_age` in `[keys]` is out of range", "1ms to 5m"),
        ("keyring =", "max_messages = 0\nkeyring =", 7, "out of range", "write 1 to 10000"),
        ("keyring =", "max_messages = -1\nkeyring =", 7, "out of range", "write 1 to 10000"),
        ("keyring =", "max_bytes = \"2TiB\"\nkeyring =", 7, "out of range", "1TiB"),
        ("keyring =", "unwrapped_age = \"61m\"\nkeyring =", 7, "out of range", "1ms to 1h"),
        // Classes.
        ("directory =", "bucket = \"b\"\n#", 11, "is no bucket", "the bucket's name"),
        ("directory =", "bucket = \"bucket\"\ndirectory =", 12, "not in both", "leave one out"),
        ("directory = \"objects\"", "", 9, "lacks `directory`", "add `directory"),
        ("directory =", "kms_key = \"alias/x\"\ndirectory =", 11, "takes no `kms_key`", "leave it out"),
        ("directory =", "vault = \"a/b\"\ndirectory =", 11, "`vault` cannot be `a/b`", "1 to 64"),
        ("directory =", "prefix = \"in\"\ndirectory =", 11, "does not end in `/`", "end it"),
        ("directory =", "prefix = \"/in/\"\ndirectory =", 11, "begins with `/`", "segments"),
        ("directory =", "prefix = \"/\"\ndirectory =", 11, "begins with `/`", "segments"),
        ("directory =", "prefix = \"a//b/\"\ndirectory =", 11, "empty segment", "segments"),
        ("directory =", "prefix = \"a/../b/\"\ndirectory =", 11, "`.` or `..`", "segments"),
        ("directory =", "prefix = \"a/.sealward/\"\ndirectory =", 11, "`.sealward`", "choose another"),
        ("directory =", "read_names = [\"records\"]\ndirectory =", 11, "bears the name", "leave this one out"),
        ("directory =", "frame_length = 5000\ndirectory =", 11, "multiple of 4KiB", "256KiB"),
        ("directory =", "frame_length = \"8MiB\"\ndirectory =", 11, "out of range", "write 4KiB to 4MiB"),
        ("directory =", "frame_length = \"64k\"\ndirectory =", 11, "is not a size", "KiB, MiB"),
        ("directory =", "max_size = \"1025TiB\"\ndirectory =", 11, "more than 4294967294 frames", "frame_length"),
        ("directory =", "write_key = \"a/b\"\ndirectory =", 11, "no name of a key", "without its namespace"),
        ("directory =", "read_keys = [\"a\"]\ndirectory =", 11, "no name of a key", "`namespace/name`"),
        ("directory =", "read_keys = []\ndirectory =", 9, "`read_keys` is empty", "leave `read_keys` out"),
        ("directory =", "exclusive = true\ndirectory =", 11, "unknown key `exclusive`", "what fits"),
        ("directory =", "canary = \"ful\"\ndirectory =", 11, "`canary` cannot be", "did you mean `full`?"),
        // Routes.
        ("\"/files/\"", "\"/files\"", 14, "does not end in `/`", "both ends"),
        ("\"/files/\"", "\"files/\"", 14, "does not begin with `/`", "both ends"),
        ("\"/files/\"", "\"/a/../\"", 14, "`.` or `..`", "both ends"),
        ("seal = { class = \"records\" }", "", 13, "does nothing", "add `seal"),
        ("seal = {", "respond = {}\nseal = {", 13, "does more than one thing", "leave all but one"),
        ("class = \"records\"", "class = \"recrods\"", 15, "no class `recrods`", "did you mean `records`?"),
        ("class = \"records\"", "class = \"x\"", 15, "no class `x`", "the classes are `records`"),
        ("path = ", "host = \"a:443\"\npath = ", 14, "`host` cannot be `a:443`", "without scheme or port"),
        ("tokens = \"tokens.json\"", "", 13, "`[identity]` has no `tokens`", "`public = true`"),
        // Limits and log.
        ("[limits]", "[limits]\nidle_timeout = 60", 21, "needs a unit", "10s"),
        ("[limits]", "[limits]\nidle_timeout = \"60\"", 21, "needs a unit", "10s"),
        ("[limits]", "[limits]\nidle_timeout = \"1 h\"", 21, "is not a duration", "ms, s, m, h, d"),
        ("[limits]", "[limits]\nbuffer_memory = \"16MiB\"", 21, "out of range", "32MiB to 1TiB"),
        ("[limits]", "[limits]\nmax_part = 4096", 21, "out of range", "5MiB to 5GiB"),
        ("[limits]", "[limits]\nmax_part = \"1GiB\"", 21, "larger than `buffer_memory`", "lower `max_part`"),
        ("[limits]", "[limits]\nheader_bytes = \"1MiB\"", 21, "out of range", "8KiB to 64KiB"),
        ("[limits]", "[limits]\nuploads = 1.5", 21, "must be a whole number", "uploads = 1"),
        ("[limits]", "[log]\nlevel = \"inof\"", 21, "`level` cannot be `inof`", "did you mean `info`?"),
        ("[limits]", "[log]\nformat = \"xml\"", 21, "`format` cannot be", "`text`, `json`"),
    ] {
        assert!(GOOD.contains(old), "{old}");
        assert_fault(&GOOD.replacen(old, new, 1), Some(line), title, help);
    }
}

#[test]
fn what_is_missing_or_there_twice_is_one_fault() {
    let without = |from: &str, to: &str| {
        let (head, rest) = GOOD.split_once(from).unwrap();
        format!("{head}{}", &rest[rest.find(to).unwrap()..])
    };
    assert_fault("", None, "no `[[listener]]`", "add a `[[listener]]`");
    assert_fault(&without("[keys]", "[[class]]"), Some(5), "there is no `[keys]`", "add `[keys]`");
    assert_fault(
        &without("tls =", "\n[keys]"),
        Some(1),
        "has `tls`: nothing could be served",
        "answers ACME's http-01",
    );
    assert_fault("[[listener]]\nbind = \"127.0.0.1:1\"", Some(1), "has `tls`: nothing could be served", "cert");

    let class = |keys: &str| format!("{GOOD}[[class]]\n{keys}\n");
    for (keys, lines, title) in [
        ("name = \"records\"\ndirectory = \"b\"", (22, 10), "two classes are called `records`"),
        ("name = \"b\"\nread_names = [\"records\"]\nvault = \"records\"\ndirectory = \"b\"", (23, 10), "in one vault"),
        ("name = \"b\"\ndirectory = \"objects\"", (23, 11), "store in one place"),
        ("name = \"b\"\ndirectory = \"x/../objects/.\"\nprefix = \"in/\"", (24, 11), "store in one place"),
        ("name = \"b\"\ndirectory = \"objects/b\"", (23, 11), "lies inside another's"),
        ("name = \"b\"\ndirectory = \"..\"", (23, 11), "lies inside another's"),
    ] {
        let faults = broken(&class(keys));
        assert_eq!(faults.len(), 1, "{faults}");
        let fault = faults.iter().next().unwrap();
        assert_eq!((fault.line(), fault.second_line()), (Some(lines.0), Some(lines.1)), "{faults}");
        assert!(fault.title().contains(title), "{faults}");
    }
    let beside = GOOD.replace("\"objects\"", "\"objects\"\nprefix = \"a/\"")
        + "[[class]]\nname = \"b\"\nread_names = [\"records\"]\ndirectory = \"objects\"\nprefix = \"ab/\"\n";
    parse(&beside).unwrap();

    let route = "[[route]]\npath = \"/files/\"\nseal = { class = \"records\" }\n";
    assert_fault(&format!("{GOOD}{route}"), Some(22), "two routes have the path `/files/`", "remove one");
    parse(&format!("{GOOD}{route}host = \"Files.Example\"\n")).unwrap();

    let listener = |bind: &str| {
        let tls = "tls = { source = { files = { cert = \"c\", key = \"k\" } } }";
        format!("{GOOD}[[listener]]\nbind = \"{bind}\"\n{tls}\n")
    };
    assert_fault(&listener("127.0.0.1:8443"), Some(22), "one bind address", "a port of its own");
    assert_fault(&listener("0.0.0.0:8443"), Some(22), "one bind address", "a port of its own");
    parse(&listener("127.0.0.2:8443")).unwrap();
    parse(&listener("[::]:8443")).unwrap();
    parse(&listener("127.0.0.1:0").replace("127.0.0.1:8443", "127.0.0.1:0")).unwrap();
    let admin = format!("{GOOD}[admin]\nbind = \"127.0.0.1:8443\"\n");
    assert_fault(&admin, Some(22), "one bind address", "a port of its own");
}

#[test]
fn every_line_that_is_no_toml_is_named() {
    let faults = broken("x = yes\ny = \"a\n[keys]\nz = 1 2\n");
    assert_eq!(faults.iter().filter_map(Fault::line).collect::<Vec<_>>(), [1, 2, 4], "{faults}");
}

#[test]
fn what_spans_can_not_be_sent_to_is_named() {
    let traces = |text: &str| format!("{GOOD}[traces]\n{text}\n");
    for good in ["http://127.0.0.1:4318", "https://collector.example/", "http://[::1]:4318/of/ours"] {
        let config = parse(&traces(&format!("endpoint = \"{good}\""))).unwrap();
        let endpoint = config.traces.unwrap().endpoint;
        assert!(endpoint.ends_with("/v1/traces") != good.ends_with("/ours"), "{endpoint}");
    }
    for bad in
        ["127.0.0.1:4318", "grpc://a:4317", "http://a:99999", "http://:80", "http://a/?token=x", "http://u:p@a", ""]
    {
        assert_fault(&traces(&format!("endpoint = \"{bad}\"")), Some(22), "`endpoint` cannot be", "OTLP over HTTP");
    }
    let told = |endpoint: &str| traces(&format!("endpoint = \"{endpoint}\"\nheaders = {{ a = \"b\" }}"));
    for good in ["https://collector.example", "http://127.0.0.1:4318", "http://localhost:4318", "http://[::1]:4318"] {
        assert_eq!(parse(&told(good)).unwrap().traces.unwrap().headers.len(), 1, "{good}");
    }
    for bad in ["http://collector.example", "http://10.0.0.1:4318", "http://localhost.example"] {
        assert_fault(&told(bad), Some(23), "in clear", "`https`");
    }
    let more = |more: &str| traces(&format!("endpoint = \"https://a\"\n{more}"));
    assert_fault(&more("headers = { host = \"x\" }"), Some(23), "can't stand here", "a header that a collector wants");
    assert_fault(&more("service = \"\""), Some(23), "`service` is empty", "leave it out");
    assert_fault(&more("one_in = 0"), Some(23), "`one_in`", "1");
    assert_fault(&traces("follow = true"), Some(21), "lacks `endpoint`", "add `endpoint");
}
