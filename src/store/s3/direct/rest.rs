//! What of an answer's body is still to come (RFC 9112, section 6).

use super::head::Head;

/// How the end of a body is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// So many bytes are to come.
    Length(u64),
    /// So many of this chunk; then the end of its line, and another.
    Chunk(u64),
    /// The line that says how long the next chunk is; `true` where the end of the one before is to come first.
    Size(bool),
    /// Everything until the connection ends.
    Close,
}

/// The most that a chunk's line, or the trailers, may have; bytes.
const LINE: usize = 4096;

impl Rest {
    /// That of the answer to a call, of which HEAD has none.
    ///
    /// # Errors
    /// For one whose end nobody can tell.
    pub(super) fn of(head: &Head, asked_for_head: bool) -> Result<Self, &'static str> {
        if asked_for_head || matches!(head.status, 204 | 304) {
            return Ok(Self::Length(0));
        }
        let mut length = None;
        for (name, value) in head.iter() {
            match name {
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => return Ok(Self::Size(false)),
                "transfer-encoding" => return Err("an answer in a transfer coding that wasn't asked for"),
                "content-length" => {
                    let said = value.parse::<u64>().map_err(|_| "an answer whose length can't be read")?;
                    if length.replace(said).is_some_and(|before| before != said) {
                        return Err("an answer of two lengths");
                    }
                }
                _ => {}
            }
        }
        Ok(length.map_or(Self::Close, Self::Length))
    }

    /// How many bytes of the body itself are to come next; `None` where a line is to be read first.
    pub(super) fn next(&self) -> Option<u64> {
        match self {
            Self::Length(left) | Self::Chunk(left) => Some(*left),
            Self::Size(_) => None,
            Self::Close => Some(u64::MAX),
        }
    }

    /// `bytes` of the body have come.
    pub(super) fn took(&mut self, bytes: u64) {
        match self {
            Self::Length(left) => *left -= bytes,
            Self::Chunk(left) => {
                *left -= bytes;
                if *left == 0 {
                    *self = Self::Size(true);
                }
            }
            Self::Size(_) | Self::Close => {}
        }
    }

    /// Reads the next chunk's line, and after the last the trailers, off the beginning of `bytes`: how many
    /// those were, or `None` where more has to come.
    ///
    /// # Errors
    /// For what is no such line.
    pub(super) fn line(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        let Self::Size(ends) = *self else { return Ok(Some(0)) };
        let more = |read: usize| if read > LINE { Err("a chunk's line without an end") } else { Ok(None) };
        let skip = if ends { 2 } else { 0 };
        if bytes.len() < skip {
            return Ok(None);
        }
        if ends && !bytes.starts_with(b"\r\n") {
            return Err("a chunk that is longer than it says");
        }
        // httparse takes a line without a digit for the last chunk's.
        if bytes.get(skip).is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err("a chunk without a length");
        }
        match httparse::parse_chunk_size(&bytes[skip..]) {
            Err(_) => Err("a chunk whose length can't be read"),
            Ok(httparse::Status::Partial) => more(bytes.len()),
            Ok(httparse::Status::Complete((line, 0))) => {
                // No trailers, mostly.
                let begin = skip + line;
                let trailers = &bytes[begin..];
                if trailers.starts_with(b"\r\n") {
                    *self = Self::Length(0);
                    return Ok(Some(begin + 2));
                }
                match trailers.windows(4).position(|window| window == b"\r\n\r\n") {
                    Some(at) => {
                        *self = Self::Length(0);
                        Ok(Some(begin + at + 4))
                    }
                    None => more(trailers.len()),
                }
            }
            Ok(httparse::Status::Complete((line, size))) => {
                *self = Self::Chunk(size);
                Ok(Some(skip + line))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(head: &str, asked_for_head: bool) -> Result<Rest, &'static str> {
        let head = format!("HTTP/1.1 {head}\r\n\r\n");
        let (head, _) = Head::parse(head.as_bytes()).expect("is no error").expect("is whole");
        Rest::of(&head, asked_for_head)
    }

    #[test]
    fn the_end_of_a_body_is_where_its_head_says() {
        assert_eq!(rest("200 OK\r\nContent-Length: 5", false), Ok(Rest::Length(5)));
        assert_eq!(rest("200 OK\r\nContent-Length: 5", true), Ok(Rest::Length(0)));
        assert_eq!(rest("204 No Content", false), Ok(Rest::Length(0)));
        assert_eq!(rest("200 OK", false), Ok(Rest::Close));
        assert_eq!(rest("200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", false), Ok(Rest::Size(false)));
        assert!(rest("200 OK\r\nTransfer-Encoding: gzip", false).is_err());
        assert!(rest("200 OK\r\nContent-Length: 5\r\nContent-Length: 6", false).is_err());
        assert!(rest("200 OK\r\nContent-Length: -1", false).is_err());
    }

    #[test]
    fn chunks_are_read_however_they_come() {
        let sent = b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nA: b\r\n\r\nnext";
        for step in 1..=sent.len() {
            let (mut rest, mut at, mut there, mut body) = (Rest::Size(false), 0, 0, Vec::new());
            while rest != Rest::Length(0) {
                let come = &sent[at..there];
                match rest.next() {
                    None => match rest.line(come).expect("is a line") {
                        Some(read) => at += read,
                        None => there = (there + step).min(sent.len()),
                    },
                    Some(_) if come.is_empty() => there = (there + step).min(sent.len()),
                    Some(left) => {
                        let take = come.len().min(usize::try_from(left).expect("is small"));
                        body.extend_from_slice(&come[..take]);
                        rest.took(take as u64);
                        at += take;
                    }
                }
            }
            assert_eq!((&*body, &sent[at..]), (&b"hello!"[..], &b"next"[..]), "{step}");
        }
        for broken in [&b"x\r\n"[..], b"\r\n", &[b'0'; 5000]] {
            assert!(Rest::Size(false).line(broken).is_err(), "{broken:?}");
        }
        assert!(Rest::Size(true).line(b"xy5\r\n").is_err());
    }
}
