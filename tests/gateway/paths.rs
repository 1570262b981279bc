//! Which requests are understood, and the words for those that are not.

use crate::{
    client::{BOTH, Raw, nothing_stored, refused},
    support::Site,
};

#[test]
fn a_path_that_could_mean_two_things_means_none() {
    let site = Site::new();
    let server = site.serve("", "");
    let long = format!("/files/{}", "k".repeat(1025));
    let long_encoded = format!("/files/{}", "%C3%A4".repeat(513));
    for (path, status) in [
        ("/files/..", 400),
        ("/files/../x", 400),
        ("/files/./x", 400),
        ("/files/a/../../x", 400),
        ("/files/a/.", 400),
        ("/files/%2e%2e/x", 400),
        ("/files/%2E/x", 400),
        ("/files/.%2e", 400),
        ("/../files/x", 400),
        ("/files//x", 400),
        ("/files/a//b", 400),
        ("//files/x", 400),
        ("/files/a%2Fb", 400),
        ("/files/a%2fb", 400),
        ("/files%2Fa", 400),
        ("/files/a%00", 400),
        ("/files/a%0d%0ab", 400),
        ("/files/a%7F", 400),
        ("/files/%", 400),
        ("/files/%4", 400),
        ("/files/%zz", 400),
        ("/files/%ff", 400),
        ("/files/%c3", 400),
        ("/files/a/", 400),
        ("/files/.sealward/x", 400),
        ("/files/%2esealward/x", 400),
        ("/files/.sealward", 400),
        (&long, 414),
        (&long_encoded, 414),
        ("/other/x", 404),
        ("/", 404),
        ("/files", 404),
        ("/FILES/x", 404),
        ("/filesx/x", 404),
    ] {
        let url = format!("https://{}{path}", server.https);
        for version in BOTH {
            for put in [true, false] {
                let mut args = vec![version, "--path-as-is", &url];
                if put {
                    // `-T` would have curl mend the path first.
                    args.extend(["-X", "PUT", "-d", "x"]);
                }
                let answer = site.curl(args);
                assert_eq!(answer.status, status, "{version} {path}: {answer:?}");
                refused(&site, &answer, status);
            }
        }
        nothing_stored(&site);
    }
}

#[test]
fn the_longest_name_is_a_name() {
    let site = Site::new();
    let server = site.serve("prefix = \"in/\"", "");
    let longest = "ä".repeat(510) + "k";
    let mut connection = Raw::new(&site, &server);
    let path = longest.replace('ä', "%C3%A4");
    assert_eq!(connection.put(&path, "", b"x").status, 201);
    assert_eq!(connection.ask(&format!("GET /files/{path}"), "").text(), "x");
    // The class's prefix counts.
    refused(&site, &connection.ask(&format!("GET /files/{path}k"), ""), 414);
}

#[test]
fn route_and_name_come_from_one_reading() {
    let site = Site::new();
    let server = site.serve("", "");
    let mut connection = Raw::new(&site, &server);
    assert_eq!(connection.put("%61%20b", "", b"x").json()["key"], "a b");
    for path in ["/files/a%20b", "/f%69les/a%20b", "/%66iles/%61%20b"] {
        assert_eq!(connection.ask(&format!("GET {path}"), "").text(), "x", "{path}");
    }
    // Decoded once, and not twice.
    refused(&site, &connection.ask("GET /files/a%2520b", ""), 404);
    assert_eq!(connection.put("..%2520", "", b"y").json()["key"], "..%20");
}

#[test]
fn refusals_say_how_to_do_it() {
    let site = Site::new();
    let server = site.serve("", "");
    let mut connection = Raw::new(&site, &server);
    let nameless = connection.ask("PUT /files/", "Content-Length: 0\r\n");
    assert!(refused(&site, &nameless, 400).contains("curl -T -"));
    assert!(refused(&site, &connection.ask("GET /files", ""), 404).contains("slash"));
    assert!(refused(&site, &connection.ask("GET /files/", ""), 400).contains("?list"));
    assert!(refused(&site, &connection.ask("GET /elsewhere", ""), 404).contains("nothing is served"));
    nothing_stored(&site);
}

#[test]
fn parameters_are_known_and_single() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "a", b"x");
    let mut connection = Raw::new(&site, &server);
    for line in [
        "GET /files/a?versionId=1",
        "GET /files/a?list",
        "GET /files/a?expires=1&expires=1",
        "HEAD /files/a?x",
        "PUT /files/a?x=1",
        "PUT /files/a?uploads",
        "PUT /files/a?expires=60",
        "DELETE /files/a?versionId=1",
        "POST /files/?x=1",
        "POST /files/a?share&x=1",
        "POST /files/a?share&share",
        "GET /files/?list&list",
        "GET /files/?list&delimiter=/",
        "GET /files/?limit=1",
    ] {
        let answer = if line.starts_with("HEAD") {
            let answer = Raw::new(&site, &server).ask_head(line);
            assert_eq!(answer, 400, "{line}");
            continue;
        } else {
            connection.ask(line, "Content-Length: 0\r\n")
        };
        assert_eq!(answer.status, 400, "{line}: {answer:?}");
        refused(&site, &answer, 400);
    }
    assert_eq!(site.get(&server, "a").text(), "x");
}

#[test]
fn methods_that_are_not_taken_say_which_are() {
    let site = Site::new();
    let server = site.serve("", "");
    let methods = |answer: &crate::support::Answer| -> Vec<String> {
        answer.header("allow").split(", ").map(str::to_owned).collect()
    };
    for version in BOTH {
        let ask = |method: &str, path: &str| site.curl([version, "-X", method, &server.url(path)]);
        for (method, path) in
            [("PATCH", "a"), ("POST", "a"), ("TRACE", "a"), ("BREW", "a"), ("DELETE", ""), ("PATCH", "")]
        {
            let answer = ask(method, path);
            refused(&site, &answer, 405);
            let allowed = methods(&answer);
            assert!(allowed.contains(&"GET".to_owned()), "{allowed:?}");
            assert_eq!(allowed.contains(&"PUT".to_owned()), path == "a", "{allowed:?}");
            let options = ask("OPTIONS", path);
            assert_eq!((options.status, methods(&options)), (204, allowed), "{options:?}");
        }
    }
}
