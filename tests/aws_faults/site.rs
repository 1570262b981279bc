//! A site whose keys and objects are in the double.

use crate::{
    double::{BUCKET, Double, OURS, World},
    support::{Answer, Sealward, Site},
};

pub(crate) const MIB: usize = 1 << 20;
/// What comes before a key in the bucket.
pub(crate) const PREFIX: &str = "records/";

/// The configuration; `class` and `rest` are added to the class and to the end.
pub(crate) fn config(class: &str, rest: &str) -> String {
    format!(
        r#"
[[listener]]
bind = "127.0.0.1:0"
tls = {{ source = {{ files = {{ cert = "tls/cert.pem", key = "tls/key.pem", refresh = "1h" }} }} }}
[keys]
provider = "kms"
[[class]]
name = "records"
kms_key = "{OURS}"
bucket = "{BUCKET}"
prefix = "{PREFIX}"
{class}
[[route]]
path = "/files/"
seal = {{ class = "records" }}
[identity]
tokens = "tokens.json"
[admin]
bind = "127.0.0.1:0"
[log]
format = "json"
level = "info"
{rest}
"#
    )
}

pub(crate) fn serve(site: &Site, double: &Double) -> Sealward {
    serve_with(site, double, "", "")
}

/// Serves with more settings of `[keys]`.
pub(crate) fn serve_keys(site: &Site, double: &Double, keys: &str) -> Sealward {
    let text = config("", "").replace("provider = \"kms\"\n", &format!("provider = \"kms\"\n{keys}"));
    site.serve_among(&text, &double.environment())
}

pub(crate) fn serve_with(site: &Site, double: &Double, class: &str, rest: &str) -> Sealward {
    site.serve_among(&config(class, rest), &double.environment())
}

/// Puts `bytes` under `key`, with more arguments to curl.
pub(crate) fn put(site: &Site, server: &Sealward, key: &str, bytes: &[u8], more: &[&str]) -> Answer {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("writes");
    let (path, url) = (file.path().to_string_lossy().into_owned(), server.url(key));
    site.curl([&["-T", &path, &url], more].concat())
}

/// The names that the bucket holds, as clients know them.
pub(crate) fn names(world: &World) -> Vec<String> {
    let names = world.objects.keys().filter(|key| world.current(key).is_some());
    names.filter_map(|key| key.strip_prefix(PREFIX)).map(str::to_owned).collect()
}
