//! The heads of calls and answers: names in lower case, values of visible ASCII.

use std::{borrow::Cow, mem::MaybeUninit};

use httparse::{ParserConfig, Status};

/// The most fields that an answer may have.
const FIELDS: usize = 128;

/// The fields of a call, by name.
#[derive(Default)]
pub(in crate::store::s3) struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Fields<'a> {
    pub(in crate::store::s3) fn add(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.0.push((name.into(), value.into()));
    }

    /// In the order of their names, as a signature has them.
    pub(super) fn sort(&mut self) {
        self.0.sort_unstable();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether they can go as they are: whatever can't is for the SDK to refuse.
    pub(super) fn fit(&self) -> bool {
        let name = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        let value = |byte| matches!(byte, b' '..=b'~');
        self.iter().all(|(n, v)| !n.is_empty() && n.bytes().all(name) && v.bytes().all(value))
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(in crate::store::s3) struct Head {
    pub(in crate::store::s3) status: u16,
    /// Whether the connection can carry another call after it.
    pub(super) keeps: bool,
    /// Names and values, one after the other.
    text: String,
    /// Where each name and its value end in `text`.
    ends: Vec<(usize, usize)>,
}

impl Head {
    /// The head at the beginning of `bytes`, and its length; `None` where more has to come.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, httparse::Error> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
        let mut answer = httparse::Response::new(&mut []);
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut answer, bytes, &mut fields)?;
        let Status::Complete(length) = parsed else { return Ok(None) };
        let mut text = String::with_capacity(length);
        let mut ends = Vec::with_capacity(answer.headers.len());
        for field in answer.headers.iter() {
            let begin = text.len();
            text.push_str(field.name);
            text[begin..].make_ascii_lowercase();
            let name = text.len();
            text.push_str(&String::from_utf8_lossy(field.value));
            ends.push((name, text.len()));
        }
        let mut head = Self { status: answer.code.unwrap_or(0), keeps: answer.version == Some(1), text, ends };
        let closes = |value: &str| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close"));
        let ends = head.iter().any(|(name, value)| name == "connection" && closes(value));
        head.keeps &= !ends;
        Ok(Some((head, length)))
    }

    /// What it says under `name`, first.
    pub(in crate::store::s3) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The service's own id of the call, under the names that the SDK looks for.
    pub(in crate::store::s3) fn request_id(&self) -> Option<&str> {
        self.get("x-amz-request-id").or_else(|| self.get("x-amzn-requestid"))
    }

    pub(in crate::store::s3) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begin = 0;
        self.ends.iter().map(move |&(name, value)| {
            let field = (&self.text[begin..name], &self.text[name..value]);
            begin = value;
            field
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_its_head_is_whole() {
        let head = b"HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nX-Amz-Meta-B:  c d \r\nEmpty:\r\n\r\nbody";
        for end in 0..head.len() - 4 {
            assert!(Head::parse(&head[..end]).expect("is no error").is_none(), "{end}");
        }
        let (parsed, length) = Head::parse(head).expect("is no error").expect("is whole");
        assert_eq!((parsed.status, parsed.keeps, &head[length..]), (206, true, &b"body"[..]));
        let fields: Vec<_> = parsed.iter().collect();
        assert_eq!(fields, [("etag", "\"a\""), ("x-amz-meta-b", "c d"), ("empty", "")]);
        assert_eq!(parsed.get("ETag"), None);
        for (head, keeps) in [("1.0 200 OK\r\n\r\n", false), ("1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false)] {
            let (parsed, _) = Head::parse(format!("HTTP/{head}").as_bytes()).expect("is no error").expect("is whole");
            assert_eq!(parsed.keeps, keeps, "{head}");
        }
        assert!(Head::parse(b"SSH-2.0-server\r\n").is_err());
    }

    #[test]
    fn what_would_break_a_head_is_left_to_the_sdk() {
        for (name, value, fits) in [
            ("x-amz-meta-a", "b c~", true),
            ("", "b", false),
            ("X", "b", false),
            ("a b", "c", false),
            ("a", "b\r\nc: d", false),
            ("a", "\t", false),
            ("a", "ä", false),
        ] {
            let mut fields = Fields::default();
            fields.add("host", "here");
            fields.add(name, value);
            assert_eq!(fields.fit(), fits, "{name}: {value}");
        }
    }
}
