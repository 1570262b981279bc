//! A request's path, decoded once; route and key both come out of it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::fault::Fault;

/// What stands unencoded in a path that we write: RFC 3986's unreserved, and the slash.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The decoded path: begins with a slash, its segments hold none.
///
/// # Errors
/// 400 for what could mean two things to two readers: dot segments, empty
/// segments, encoded slashes, controls, and what isn't UTF-8.
pub fn decode(path: &str) -> Result<String, Fault> {
    let bad = |what: &'static str| Err(Fault::bad_request(what));
    let Some(rest) = path.strip_prefix('/') else { return bad("the path doesn't begin with a slash") };
    let mut decoded = String::with_capacity(path.len());
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        if !well_escaped(segment) {
            return bad("the path has a percent sign that escapes nothing");
        }
        let Ok(segment) = percent_decode_str(segment).decode_utf8() else { return bad("the path isn't UTF-8") };
        match &*segment {
            "." | ".." => return bad("the path has a dot segment"),
            "" if segments.peek().is_some() => return bad("the path has an empty segment"),
            text if text.contains('/') => return bad("the path has an encoded slash: write it plainly, or not at all"),
            text if text.chars().any(char::is_control) => return bad("the path has a control character"),
            text => {
                decoded.push('/');
                decoded.push_str(text);
            }
        }
    }
    Ok(decoded)
}

/// Whether some apps read a decoded path as another: `..;x` as `..`, and a backslash as a slash.
pub fn is_otherwise_to_some(path: &str) -> bool {
    let dots = |segment: &str| matches!(segment.split_once(';'), Some(("." | "..", _)));
    path.contains('\\') || path.split('/').any(dots)
}

/// A decoded path as it goes into a `Location` or a link.
pub fn encode(path: &str) -> String {
    utf8_percent_encode(path, PLAIN).to_string()
}

fn well_escaped(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        for (raw, decoded) in [
            ("/", "/"),
            ("/files/", "/files/"),
            ("/files/a%20b", "/files/a b"),
            ("/files/%C3%A4", "/files/ä"),
            ("/files/%2520", "/files/%20"),
            ("/f%69les/a", "/files/a"),
            ("/files/...", "/files/..."),
        ] {
            assert_eq!(decode(raw).expect(raw), decoded);
        }
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        for raw in [
            "",
            "*",
            "files",
            "//",
            "/files//a",
            "/./a",
            "/../a",
            "/a/..",
            "/%2e/a",
            "/%2E%2e/a",
            "/.%2e/",
            "/a%2Fb",
            "/a%2fb",
            "/%00",
            "/a%0ab",
            "/a%7f",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
        ] {
            assert_eq!(decode(raw).expect_err(raw).status(), 400, "{raw}");
        }
    }

    #[test]
    fn what_some_apps_read_otherwise_is_known() {
        for path in ["/a/..;/b", "/a/.;x/b", "/a\\b", "/..;"] {
            assert!(is_otherwise_to_some(path), "{path}");
        }
        for path in ["/", "/a;b/c", "/a..;b", "/...;"] {
            assert!(!is_otherwise_to_some(path), "{path}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same() {
        for path in ["/files/a b", "/files/ä/ö?#%", "/files/x-._~"] {
            assert_eq!(decode(&encode(path)).expect(path), path);
        }
    }
}
