//! Which request goes where.

use crate::{
    apps::{ask, serve},
    support::Site,
};

fn respond(body: &str, keys: &str) -> String {
    format!("[[route]]\npublic = true\n{keys}\nrespond = {{ body = \"{body}\" }}\n")
}

#[test]
fn the_narrowest_route_that_fits_answers() {
    let site = Site::new();
    let routes = [
        respond("root", "path = \"/\""),
        respond("app", "path = \"/app/\""),
        respond("exact", "path = \"/app/exact\""),
        respond("pattern", "path_pattern = \"/app/[0-9]+\""),
        respond("host", "path = \"/app/\"\nhost = \"one.example\""),
        respond("below", "path = \"/app/\"\nhost = \"*.example\""),
        respond("method", "path = \"/app/\"\nmethods = [\"DELETE\"]"),
        respond("header", "path = \"/app/\"\nheaders = { x-tenant = \"a|b\" }"),
        respond("query", "path = \"/app/\"\nquery = { v = \"[23]\" }"),
        respond("source", "path = \"/near/\"\nsources = [\"127.0.0.0/8\"]"),
        respond("far", "path = \"/far/\"\nsources = [\"192.0.2.0/24\"]"),
        respond("first", "path = \"/\"\nheaders = { x-first = \".*\" }\npriority = 1"),
    ];
    let server = serve(&site, &routes.concat());
    for (path, args, expected) in [
        ("/", &[][..], "root"),
        ("/other", &[], "root"),
        ("/app", &[], "root"),
        ("/app/", &[], "app"),
        ("/app/x/y", &[], "app"),
        ("/app/exact", &[], "exact"),
        ("/%61pp/exact", &[], "exact"),
        ("/app/exact/", &[], "app"),
        ("/app/42", &[], "pattern"),
        ("/app/42x", &[], "app"),
        ("/app/x", &["-H", "host: one.example"], "host"),
        ("/app/x", &["-H", "host: ONE.example:99"], "host"),
        ("/app/x", &["-H", "host: one.example."], "host"),
        ("/app/x", &["-H", "host: a.b.example"], "below"),
        ("/app/x", &["-H", "host: example"], "app"),
        ("/app/x", &["-X", "DELETE"], "method"),
        ("/app/x", &["-H", "x-tenant: b"], "header"),
        ("/app/x", &["-H", "x-tenant: bb"], "app"),
        ("/app/x?v=2", &[], "query"),
        ("/app/x?v=4", &[], "app"),
        ("/app/x?w=1&v=3", &[], "query"),
        ("/near/x", &[], "source"),
        ("/far/x", &[], "root"),
        ("/app/exact", &["-H", "x-first: anything"], "first"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let answer = ask(&site, &server, path, &[&[version], args].concat());
            assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{version} {path} {args:?}");
        }
    }
    // A path that could mean two things to two readers goes nowhere.
    for odd in ["/app/../x", "/app/%2e%2e/x", "/app//x", "/app/%2Fx", "/app/%zz"] {
        assert_eq!(ask(&site, &server, odd, &["--path-as-is"]).status, 400, "{odd}");
    }
}

#[test]
fn redirects_and_fixed_answers() {
    let site = Site::new();
    let routes = "[[route]]\npath = \"/old/\"\nredirect = { to = \"https://{host}/new{path}?{query}\" }\n\
        [[route]]\npath = \"/moved\"\nredirect = { to = \"/here\", status = \"302\" }\n\
        [[route]]\npath = \"/teapot\"\nrespond = { status = 418, body = \"short and stout\", content_type = \"text/x-tea\" }\n";
    let server = serve(&site, routes);
    let old = ask(&site, &server, "/old/a%20b?c=d", &[]);
    assert_eq!((old.status, old.header("location")), (308, "https://localhost/new/old/a%20b?c=d"));
    let evil = ask(&site, &server, "/old/", &["-H", "host: evil.example/@x"]);
    assert!(evil.status == 400 || !evil.header("location").contains("@x"), "{evil:?}");
    let moved = ask(&site, &server, "/moved", &[]);
    assert_eq!((moved.status, moved.header("location")), (302, "/here"));
    let teapot = ask(&site, &server, "/teapot", &[]);
    assert_eq!(
        (teapot.status, teapot.text().as_str(), teapot.header("content-type")),
        (418, "short and stout", "text/x-tea")
    );
    assert!(server.metrics().contains("route=\"/teapot\""));
    assert_eq!(ask(&site, &server, "/none", &[]).status, 404);
}
