//! What a client asks to have checked is checked before the object appears.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::{
    client::{BOTH, Http2, Raw, nothing_stored, refused, upload},
    support::Site,
};

/// The check text of every catalogue of CRCs.
const TEXT: &[u8] = b"123456789";
/// A field, and its digest of [`TEXT`] in hex, as catalogues and coreutils have it.
const FIELDS: [(&str, &str); 9] = [
    ("content-md5", "25f9e794323b453885f5181f1b624d0b"),
    ("x-amz-checksum-crc32", "cbf43926"),
    ("x-amz-checksum-crc32c", "e3069283"),
    ("x-amz-checksum-crc64nvme", "ae8b14860a799888"),
    ("x-amz-checksum-sha256", SHA256),
    ("content-digest: sha-256", SHA256),
    ("repr-digest: sha-256", SHA256),
    ("content-digest: sha-512", SHA512),
    ("repr-digest: sha-512", SHA512),
];
const SHA256: &str = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
const SHA512: &str = "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274\
                      ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85";

/// Name and value of a field that promises the digest `hex`, with `flip` added to its last byte.
fn field(what: &str, hex: &str, flip: u8) -> (String, String) {
    let mut digest: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect();
    let last = digest.len() - 1;
    digest[last] = digest[last].wrapping_add(flip);
    let value = STANDARD.encode(digest);
    match what.split_once(": ") {
        Some((name, algorithm)) => (name.into(), format!("{algorithm}=:{value}:")),
        None => (what.into(), value),
    }
}

#[test]
fn a_promise_in_the_head_is_kept_or_nothing_is_stored() {
    let site = Site::new();
    let server = site.serve("", "");
    for (what, hex) in FIELDS {
        let (name, wrong) = field(what, hex, 1);
        let (_, right) = field(what, hex, 0);
        for version in BOTH {
            let answer = upload(&site, &server, "new", TEXT, &[version, "-H", &format!("{name}: {wrong}")]);
            refused(&site, &answer, 400);
            nothing_stored(&site);
        }
        let answer = upload(&site, &server, "new", TEXT, &["-H", &format!("{name}: {right}")]);
        assert_eq!(answer.status, 201, "{what}: {answer:?}");

        // What stands there is unharmed by a later one that is wrong.
        let answer = upload(&site, &server, "new", b"12345678", &["-H", &format!("{name}: {right}")]);
        refused(&site, &answer, 400);
        assert_eq!(site.get(&server, "new").body, TEXT);
        assert_eq!(site.curl(["-X", "DELETE", &server.url("new")]).status, 204);
    }
}

#[test]
fn every_one_of_several_promises_counts() {
    let site = Site::new();
    let server = site.serve("", "");
    for wrong in 0..FIELDS.len() {
        let lines: String = FIELDS
            .iter()
            .enumerate()
            .map(|(at, (what, hex))| {
                let (name, value) = field(what, hex, u8::from(at == wrong));
                format!("{name}: {value}\r\n")
            })
            .collect();
        let answer = Raw::new(&site, &server).put("new", &lines, TEXT);
        refused(&site, &answer, 400);
        nothing_stored(&site);
    }
    let both = format!("{}, {}", field(FIELDS[5].0, SHA256, 0).1, field(FIELDS[7].0, SHA512, 1).1);
    refused(&site, &Raw::new(&site, &server).put("new", &format!("Content-Digest: {both}\r\n"), TEXT), 400);
    nothing_stored(&site);
}

#[test]
fn a_promise_in_the_trailer_is_kept_or_nothing_is_stored() {
    let site = Site::new();
    let server = site.serve("", "");
    for (what, hex) in FIELDS {
        let (name, right) = field(what, hex, 0);
        let (_, wrong) = field(what, hex, 1);
        for announce in ["Trailer", "x-amz-trailer"] {
            let announced = format!("{announce}: {name}\r\n");
            let put = |trailer: &str| Raw::new(&site, &server).put_chunked("new", &announced, TEXT, trailer);
            let answer = put(&format!("{name}: {wrong}\r\n"));
            refused(&site, &answer, 400);
            nothing_stored(&site);
            let missing = refused(&site, &put(""), 400);
            assert!(missing.contains("never came"), "{missing}");
            nothing_stored(&site);
            let answer = put(&format!("{name}: {right}\r\n"));
            assert_eq!(answer.status, 201, "{what} by {announce}: {answer:?}");
            let answer = put(&format!("{name}: {wrong}\r\n"));
            refused(&site, &answer, 400);
            assert_eq!(site.get(&server, "new").body, TEXT);
            assert_eq!(site.curl(["-X", "DELETE", &server.url("new")]).status, 204);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_has_trailers_too() {
    let site = Site::new();
    let server = site.serve("", "");
    let mut client = Http2::new(&site, &server).await;
    for (what, hex) in FIELDS {
        let (name, right) = field(what, hex, 0);
        let (_, wrong) = field(what, hex, 1);
        for (value, status) in [(Some(wrong), 400), (None, 400), (Some(right), 201)] {
            let (answer, mut body) = client.put(&format!("new-{hex}{name}"), &[("trailer", &name)]).await;
            body.send_data(Bytes::from_static(TEXT), value.is_none()).expect("is sent");
            if let Some(value) = &value {
                let mut trailers = http::HeaderMap::new();
                let name: http::HeaderName = name.parse().expect("a name");
                trailers.insert(name, value.parse().expect("a value"));
                body.send_trailers(trailers).expect("is sent");
            }
            assert_eq!(answer.await.expect("an answer").status(), status, "{what} {value:?}");
        }
    }
}

#[test]
fn a_digest_that_nobody_announced_is_not_passed_over() {
    let site = Site::new();
    let server = site.serve("", "");
    for (what, hex) in FIELDS {
        let (name, wrong) = field(what, hex, 1);
        let answer = Raw::new(&site, &server).put_chunked("new", "", TEXT, &format!("{name}: {wrong}\r\n"));
        refused(&site, &answer, 400);
        nothing_stored(&site);
    }
    // Whether it is right can't be told any more, and that is what is said.
    let (name, right) = field(FIELDS[0].0, FIELDS[0].1, 0);
    let answer = Raw::new(&site, &server).put_chunked("new", "", TEXT, &format!("{name}: {right}\r\n"));
    let detail = refused(&site, &answer, 400);
    assert!(detail.contains("announce"), "{detail}");
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let site = Site::new();
    let server = site.serve("", "");
    for header in [
        "Content-Digest: unixsum=:AAAA:",
        "Repr-Digest: crc32c=:AAAAAA==:",
        "Content-Digest: sha-256=:AAAA:",
        "Content-Digest: nonsense((",
        "Content-MD5: nonsense",
        "Content-MD5: AAAA",
        "x-amz-checksum-sha1: Lve95gjOVATpfV8EL5X4nxwjKHE=",
        "x-amz-checksum-md5: 1B2M2Y8AsgTpgAmY7PhCfg==",
        "x-amz-checksum-crc32: AAAA",
        "Trailer: x-amz-checksum-sha1",
        "x-amz-trailer: x-amz-checksum-sha1",
    ] {
        refused(&site, &upload(&site, &server, "new", TEXT, &["-H", header]), 400);
        nothing_stored(&site);
    }
    // One that is known is enough, and is checked.
    let (_, right) = field("content-digest: sha-256", SHA256, 0);
    let header = format!("Content-Digest: unixsum=:AAAA:, {right}");
    assert_eq!(upload(&site, &server, "new", TEXT, &["-H", &header]).status, 201);
    // These say how, not what.
    for header in ["x-amz-checksum-algorithm: SHA256", "x-amz-sdk-checksum-algorithm: CRC32"] {
        assert_eq!(upload(&site, &server, "new", TEXT, &["-H", header]).status, 200, "{header}");
    }
}
