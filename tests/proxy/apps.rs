//! A site before apps.

use crate::support::{Answer, Sealward, Site};

/// Serves with these upstreams and routes besides the usual one.
pub(crate) fn serve(site: &Site, more: &str) -> Sealward {
    site.serve_text(&Site::config("", more))
}

/// An upstream called `app` and a public route to it from `/`.
pub(crate) fn to(targets: &[String], more: &str) -> String {
    format!(
        "[[route]]\npath = \"/\"\npublic = true\nforward = {{ upstream = \"app\" }}\n\
         [[upstream]]\nname = \"app\"\ntargets = {targets:?}\n{more}\n"
    )
}

/// What is said to a request for `path` without a token.
pub(crate) fn ask(site: &Site, server: &Sealward, path: &str, args: &[&str]) -> Answer {
    let url = format!("https://localhost:{}{path}", server.https.port());
    site.curl_bare(args.iter().copied().chain([url.as_str()]))
}

/// One line of what nginx says.
pub(crate) fn said(answer: &Answer, name: &str) -> String {
    let text = answer.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    line.unwrap_or_else(|| panic!("no {name} in {answer:?}")).to_owned()
}
