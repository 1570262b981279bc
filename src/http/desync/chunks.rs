//! A chunked body as it comes over the wire (RFC 9112, section 7.1).

use super::{Finding, Reason, text};

/// A chunk's extensions, bytes; nobody here uses any.
const EXTENSIONS: usize = 1024;
/// All trailers of a body, bytes.
const TRAILERS: usize = 16 << 10;
/// Trailers that would say after the body how it was to be read, or for whom it was
/// (RFC 9110, section 6.5.1).
const NEVER_BEHIND: [&[u8]; 9] = [
    b"content-length",
    b"transfer-encoding",
    b"host",
    b"content-encoding",
    b"content-type",
    b"content-range",
    b"authorization",
    b"trailer",
    b"connection",
];

/// Follows the chunks of one body.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    /// Digits of the size, extensions of the chunk, or bytes of trailers so far.
    seen: usize,
    /// Within the quotes of an extension's value, and whether behind a backslash there.
    quoted: bool,
    escaped: bool,
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size(u64),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailer,
    TrailerEnd,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { state: State::Size(0), seen: 0, quoted: false, escaped: false, line: Vec::new() }
    }
}

impl Chunks {
    /// Follows `bytes`: how many of them are the body's, and whether it has ended with them.
    ///
    /// # Errors
    /// What can't be read, or not by everybody alike.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(usize, bool), Finding> {
        let bad = || Reason::BadChunk.severe();
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            self.state = match (self.state, byte) {
                (State::Data(left), _) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    at += here;
                    let left = left - here as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    continue;
                }
                (State::Size(size), digit) if digit.is_ascii_hexdigit() => {
                    self.seen += 1;
                    if self.seen > 16 {
                        return Err(bad());
                    }
                    let digit = (digit as char).to_digit(16).unwrap_or_default();
                    State::Size(size << 4 | u64::from(digit))
                }
                (State::Size(size), b'\r') if self.seen > 0 => State::SizeEnd(size),
                (State::Size(size), b';') if self.seen > 0 => {
                    self.seen = 0;
                    State::Extension(size)
                }
                (State::Extension(size), b'\r') if !self.quoted => State::SizeEnd(size),
                (State::Extension(size), byte) if byte == b'\t' || !byte.is_ascii_control() => {
                    self.seen += 1;
                    if self.seen > EXTENSIONS {
                        return Err(bad());
                    }
                    match byte {
                        _ if self.escaped => self.escaped = false,
                        b'\\' => self.escaped = self.quoted,
                        b'"' => self.quoted = !self.quoted,
                        _ => {}
                    }
                    State::Extension(size)
                }
                (State::SizeEnd(size), b'\n') => {
                    self.seen = 0;
                    if size == 0 { State::Trailer } else { State::Data(size) }
                }
                (State::DataCr, b'\r') => State::DataLf,
                (State::DataLf, b'\n') => {
                    self.seen = 0;
                    State::Size(0)
                }
                (State::Trailer, b'\r') => State::TrailerEnd,
                (State::Trailer, byte) if byte != b'\n' => {
                    self.seen += 1;
                    if self.seen > TRAILERS {
                        return Err(Reason::BadTrailer.severe());
                    }
                    self.line.push(byte);
                    State::Trailer
                }
                (State::TrailerEnd, b'\n') if self.line.is_empty() => return Ok((at + 1, true)),
                (State::TrailerEnd, b'\n') => {
                    judge(&self.line)?;
                    self.line.clear();
                    State::Trailer
                }
                (State::Trailer | State::TrailerEnd, _) => return Err(Reason::BadTrailer.severe()),
                _ => return Err(bad()),
            };
            at += 1;
        }
        Ok((at, false))
    }
}

fn judge(line: &[u8]) -> Result<(), Finding> {
    let bad = Reason::BadTrailer.severe();
    let colon = line.iter().position(|byte| *byte == b':').ok_or(bad)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let named = !name.is_empty() && name.iter().all(|byte| text::is_token(*byte));
    let valued = value.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t');
    let allowed = !NEVER_BEHIND.iter().any(|never| name.eq_ignore_ascii_case(never));
    if named && valued && allowed { Ok(()) } else { Err(bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All at once, and byte by byte.
    fn follow(bytes: &[u8]) -> Result<(usize, bool), Reason> {
        let whole = Chunks::default().follow(bytes).map_err(|finding| finding.reason);
        let mut chunks = Chunks::default();
        let mut taken = 0;
        for byte in bytes.chunks(1) {
            match chunks.follow(byte) {
                Ok((one, ended)) => {
                    taken += one;
                    if ended {
                        assert_eq!(whole, Ok((taken, true)));
                        return whole;
                    }
                }
                Err(finding) => {
                    assert_eq!(whole, Err(finding.reason), "{:?}", bytes.escape_ascii().to_string());
                    return whole;
                }
            }
        }
        assert_eq!(whole, Ok((taken, false)));
        whole
    }

    #[test]
    fn a_body_ends_where_it_ends() {
        for (body, behind) in [
            (&b"0\r\n\r\n"[..], 0),
            (b"00000\r\n\r\nGET", 3),
            (b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1", 14),
            (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", 0),
            (b"5;ext=1;q=\"a\\\"b\"\r\nhello\r\n0\r\n\r\n", 0),
            (b"1\r\nx\r\n0\r\nx-sum: 1\r\nx-more:\r\n\r\nG", 1),
        ] {
            assert_eq!(follow(body), Ok((body.len() - behind, true)), "{}", body.escape_ascii());
        }
        assert_eq!(follow(b"5\r\nhel"), Ok((6, false)));
    }

    #[test]
    fn what_two_readers_may_read_in_two_ways_is_refused() {
        for body in [
            &b"\r\n"[..],
            b"+5\r\n",
            b" 5\r\n",
            b"5 \r\n",
            b"0x5\r\n",
            b"-1\r\n",
            b"5\nhello",
            b"5\rhello",
            b"5\r\nhelloX",
            b"5\r\nhello\n",
            b"5\r\nhello\r0",
            b"10000000000000000\r\n",
            b"5;a\nb\r\n",
            b"5;a\rb\r\n",
            b"5;a\0b\r\n",
            b"5;a=\"\r\n",
            b"5;a=\"\\\"\r\n",
            b";a\r\n",
        ] {
            assert_eq!(follow(body), Err(Reason::BadChunk), "{}", body.escape_ascii());
        }
        for trailers in [
            &b"content-length: 5\r\n"[..],
            b"Transfer-Encoding: chunked\r\n",
            b"host: a\r\n",
            b"x : 1\r\n",
            b"x\r\n",
            b": 1\r\n",
            b" x: 1\r\n",
            b"x: 1\n",
            b"x: \x01\r\n",
        ] {
            let body = [b"0\r\n", trailers].concat();
            assert_eq!(follow(&body), Err(Reason::BadTrailer), "{}", body.escape_ascii());
        }
        assert_eq!(follow(&[b"5;".as_slice(), &vec![b'x'; EXTENSIONS + 1]].concat()), Err(Reason::BadChunk));
        let long = [b"0\r\nx:".as_slice(), &vec![b'x'; TRAILERS]].concat();
        assert_eq!(follow(&long), Err(Reason::BadTrailer));
    }
}
