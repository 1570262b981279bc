//! What a class holds, page by page.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{
    client::{BOTH, refused},
    support::{Sealward, Site, pattern},
};

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn list(site: &Site, server: &Sealward, query: &str) -> Value {
    let answer = site.curl([server.url(&format!("?list{query}"))]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

fn keys(list: &Value) -> Vec<String> {
    let objects = list["objects"].as_array().expect("a list");
    objects.iter().map(|object| object["key"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_list_has_every_object_once_in_order_with_its_plaintext_size() {
    let site = Site::new();
    let server = site.serve("frame_length = \"4KiB\"", "");
    assert_eq!(list(&site, &server, ""), serde_json::json!({"objects": [], "next": null}));
    let mut names = vec![
        "a",
        "a b",
        "a+b",
        "a/b",
        "a/b/c",
        "a.b",
        "B",
        "...",
        "..x",
        ".hidden",
        "x/.sealward/y",
        "x/..y",
        "%41",
        "ä/ö",
        "日本",
        "a.sealed/b",
        "a.meta",
        "c%2Fd",
        "q?r#s",
        "~",
        "a&b=c",
        "'\"<>",
    ];
    let mut tags = std::collections::HashMap::new();
    for (at, name) in names.iter().enumerate() {
        let path: Vec<String> = name.split('/').map(encoded).collect();
        let path = path.join("/");
        let path = if path.contains("%2E") { path.replace("%2E", ".") } else { path };
        if *name == "c%2Fd" {
            // An escaped percent sign is itself, and nothing more.
            assert_eq!(path, "c%252Fd");
        }
        let answer = site.put(&server, &path, &pattern(at * 1000));
        assert_eq!(answer.json()["key"], **name);
        tags.insert((*name).to_owned(), answer.json()["etag"].clone());
    }
    names.sort_unstable();
    let all = list(&site, &server, "");
    assert_eq!(keys(&all), names);
    assert_eq!(all["next"], Value::Null);
    for object in all["objects"].as_array().expect("a list") {
        let path = object["key"].as_str().expect("a name").split('/').map(encoded).collect::<Vec<_>>().join("/");
        let path = path.replace("%2E", ".");
        let read = site.get(&server, &path);
        assert_eq!(object["size"], read.body.len(), "{object}");
        assert_eq!(object["etag"], tags[object["key"].as_str().expect("a name")]);
        assert_eq!(format!("\"{}\"", object["etag"].as_str().expect("a tag")), read.header("etag"));
        let format = &time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::parse(object["modified"].as_str().expect("a time"), format).expect("RFC 3339");
    }

    // Pages of any size are the whole, each name once.
    for limit in [1, 3, names.len() - 1, names.len()] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = list(&site, &server, &format!("&limit={limit}&after={}", encoded(&after)));
            assert!(keys(&page).len() <= limit);
            found.extend(keys(&page));
            match page["next"].as_str() {
                Some(next) => {
                    assert_eq!(Some(next), found.last().map(String::as_str));
                    after = next.to_owned();
                }
                None => break,
            }
        }
        assert_eq!(found, names, "in pages of {limit}");
    }
}

#[test]
fn a_list_can_begin_anywhere() {
    let site = Site::new();
    let server = site.serve("", "");
    for name in ["a", "b/1", "b/2", "b/3", "c"] {
        site.put(&server, name, b"x");
    }
    for (query, expected) in [
        ("&prefix=b/", &["b/1", "b/2", "b/3"][..]),
        ("&prefix=b%2F&after=b/1", &["b/2", "b/3"]),
        ("&prefix=b/&limit=2", &["b/1", "b/2"]),
        ("&prefix=b", &["b/1", "b/2", "b/3"]),
        ("&after=b", &["b/1", "b/2", "b/3", "c"]),
        ("&after=b/15", &["b/2", "b/3", "c"]),
        ("&after=", &["a", "b/1", "b/2", "b/3", "c"]),
        ("&prefix=b/&after=c", &[]),
        ("&prefix=none", &[]),
        ("&prefix=.sealward", &[]),
        ("&prefix=.sealward/", &[]),
        ("&after=zzz", &[]),
    ] {
        assert_eq!(keys(&list(&site, &server, query)), expected, "{query}");
    }
    assert_eq!(list(&site, &server, "&prefix=b/&limit=2")["next"], "b/2");
    for query in ["&limit=0", "&limit=1001", "&limit=x", "&limit=-1", "&limit=", "&limit=1&limit=2", "&what=1"] {
        for version in BOTH {
            refused(&site, &site.curl([version, &server.url(&format!("?list{query}"))]), 400);
        }
    }
    assert_eq!(keys(&list(&site, &server, "&limit=1000")).len(), 5);
    assert_eq!(site.curl(["-I", &server.url("?list")]).status, 200);
}

#[test]
fn a_class_s_prefix_is_not_in_its_names() {
    let site = Site::new();
    let server = site.serve("prefix = \"in/\"", "");
    for name in ["a", "b", "in/c"] {
        site.put(&server, name, b"12345");
    }
    let all = list(&site, &server, "");
    assert_eq!(keys(&all), ["a", "b", "in/c"]);
    assert_eq!(all["objects"][0]["size"], 5);
    assert_eq!(keys(&list(&site, &server, "&after=a&limit=1")), ["b"]);
    assert_eq!(keys(&list(&site, &server, "&prefix=in/")), ["in/c"]);
}
