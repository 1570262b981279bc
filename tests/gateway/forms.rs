//! `multipart/form-data`: exactly one file, or nothing.

use crate::{
    client::{BOTH, Raw, file, nothing_stored, refused},
    support::{Answer, Sealward, Site, pattern},
};

fn form(site: &Site, server: &Sealward, content_type: &str, body: &[u8]) -> Answer {
    let mut connection = Raw::new(site, server);
    let length = body.len();
    connection.head("POST /files/", &format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n"));
    connection.offer(body);
    connection.answer()
}

#[test]
fn a_form_s_file_is_stored_with_its_name_and_type() {
    let site = Site::new();
    let server = site.serve("", "");
    let bytes = pattern(700_000);
    let path = file(&site, &bytes);
    for version in BOTH {
        for (name, disposition) in [
            ("a b.csv", "attachment; filename=\"a b.csv\""),
            ("é.csv", "attachment; filename=\"_.csv\"; filename*=UTF-8''%C3%A9.csv"),
        ] {
            let part = format!("file=@{};filename=\"{name}\";type=text/csv", path.display());
            let args = [version, "-H", "x-amz-meta-from: a form", "-F", &part, &server.url("")];
            let answer = site.curl(args);
            assert_eq!(answer.status, 201, "{answer:?}");
            assert_eq!(answer.json()["size"], bytes.len());
            let read = site.curl([format!("https://{}{}", server.https, answer.header("location"))]);
            assert!(read.body == bytes);
            assert_eq!(read.header("content-type"), "text/csv");
            assert_eq!(read.header("content-disposition"), disposition);
            assert_eq!(read.header("x-amz-meta-from"), "a form");
        }
    }
}

#[test]
fn a_form_that_is_not_one_file_stores_nothing() {
    let site = Site::new();
    let server = site.serve("", "");
    let path = file(&site, &pattern(400_000));
    let part = |name: &str| format!("{name}=@{}", path.display());
    let (one, two, field) = (part("one"), part("two"), "field=value".to_owned());
    for version in BOTH {
        for parts in [&[&one, &two][..], &[&one, &field], &[&field, &one], &[&field]] {
            let mut args = vec![version.to_owned()];
            args.extend(parts.iter().flat_map(|part| ["-F".to_owned(), (*part).clone()]));
            args.push(server.url(""));
            let detail = refused(&site, &site.curl(args), 400);
            assert!(detail.contains("form"), "{detail}");
            nothing_stored(&site);
        }
    }
}

#[test]
fn a_form_that_cannot_be_read_stores_nothing() {
    let site = Site::new();
    let server = site.serve("", "");
    let good = "multipart/form-data; boundary=BB";
    let head = "--BB\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n";
    let huge = format!("{head}X-Long: {}\r\n\r\nhello\r\n--BB--\r\n", "x".repeat(2 << 20));
    let many = format!("{head}{}\r\nhello\r\n--BB--\r\n", "X-More: y\r\n".repeat(60_000));
    let whole = format!("{head}\r\nhello\r\n--BB--\r\n");
    let preamble = format!("{}\r\n{whole}", "p".repeat(2 << 20));
    for (what, content_type, body) in [
        ("empty", good, "--BB--\r\n"),
        ("no bytes", good, ""),
        ("no boundary", "multipart/form-data", whole.as_str()),
        ("another boundary", "multipart/form-data; boundary=CC", &whole),
        ("cut in its head", good, head),
        ("cut in its file", good, &whole[..whole.len() - 12]),
        ("a huge head", good, &huge),
        ("many heads", good, &many),
        ("a huge preamble", good, &preamble),
    ] {
        let answer = form(&site, &server, content_type, body.as_bytes());
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        refused(&site, &answer, 400);
        nothing_stored(&site);
    }
    assert_eq!(form(&site, &server, good, whole.as_bytes()).status, 201);
}

#[test]
fn what_is_said_of_a_whole_form_is_refused() {
    let site = Site::new();
    let server = site.serve("", "");
    let part = format!("f=@{}", file(&site, b"hello").display());
    for header in ["Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==", "x-amz-meta-sealward-x: 1", "Content-Range: bytes 0-0/1"] {
        refused(&site, &site.curl(["-H", header, "-F", &part, &server.url("")]), 400);
    }
    nothing_stored(&site);
}
