//! Requests as bytes: odd, malformed and good ones, and what becomes of each.
//!
//! A row is a name; the class, the reason's label and the status when only what is compliant
//! passes; what Debian's nginx 1.22 and haproxy 2.6 do with the same bytes; and those bytes.
//!
//! `/smuggled` stands where RFC 9112 sees no request of its own, or none that may be served:
//! no app may ever be asked for it. `/next` is a request of its own to every reader that took
//! the one before it.

/// How sure everybody is to read a request alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Compliant,
    Acceptable,
    Ambiguous,
    Severe,
}

/// What another server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The app sees nothing of it; the client gets this status.
    Refuses(u16),
    /// The app sees each line of the head as it came, but for blanks and the case of names.
    Passes,
    /// The app sees the request, and its head or framing is another.
    PassesChanged,
    /// The app sees the beginning of a request and never its end; the client gets this status.
    BreaksOff(u16),
    /// The app sees the request, and `/smuggled` behind it as another.
    PassesBoth,
    /// It ends the connection, and the app sees nothing.
    Closes,
    /// One process of it always refuses, and the next always passes.
    Varies,
}

impl Peer {
    /// Whether `other` is what this notes.
    pub(crate) fn is(self, other: Self) -> bool {
        match self {
            Self::Varies => matches!(other, Self::Refuses(_) | Self::Passes | Self::PassesChanged),
            noted => noted == other,
        }
    }
}

/// What of a row may come to an app when only what is compliant passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comes {
    /// Nothing: its head is refused.
    Nothing,
    /// A request that breaks off: its head is good, its body isn't.
    Broken,
    /// All of it, to its end.
    Whole,
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) class: Class,
    pub(crate) reason: &'static str,
    pub(crate) status: u16,
    pub(crate) nginx: Peer,
    pub(crate) haproxy: Peer,
    pub(crate) comes: Comes,
    pieces: &'static [&'static [u8]],
}

impl Row {
    /// What is sent. A piece `\xff*N` is as many letters, and `\xff#N` as many headers.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        let mut bytes = Vec::new();
        for piece in self.pieces {
            match piece {
                [0xff, b'*', digits @ ..] => bytes.extend(b"a".repeat(number(digits))),
                [0xff, b'#', digits @ ..] => bytes.extend(b"X-Odd: a\r\n".repeat(number(digits))),
                piece => bytes.extend_from_slice(piece),
            }
        }
        bytes
    }
}

/// The rows by what is wrong with them.
pub(crate) fn groups() -> [(&'static str, &'static [Row]); 5] {
    [
        ("Lengths and codings", lengths::ROWS),
        ("Lines, names and values", lines::ROWS),
        ("Request lines and hosts", requests::ROWS),
        ("Chunks", chunks::ROWS),
        ("What passes", good::ROWS),
    ]
}

/// All rows.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    groups().into_iter().flat_map(|(_, rows)| rows)
}

/// Rows of which `$comes` may come to an app.
macro_rules! rows {
    ($comes:expr; $($name:literal $class:ident $reason:ident $status:literal,
        $nginx:expr, $haproxy:expr, [$($piece:expr),+];)*) => {
        /// The rows.
        pub(super) const ROWS: &[Row] = &[$(Row {
            name: $name,
            class: Class::$class,
            reason: stringify!($reason),
            status: $status,
            nginx: $nginx,
            haproxy: $haproxy,
            comes: $comes,
            pieces: &[$($piece),+],
        },)*];
    };
}

// Below this file whoever includes it.
#[path = "table/chunks.rs"]
mod chunks;
#[path = "table/good.rs"]
mod good;
#[path = "table/lengths.rs"]
mod lengths;
#[path = "table/lines.rs"]
mod lines;
#[path = "table/requests.rs"]
mod requests;

/// How most rows begin, how a head ends, and what is meant not to be seen.
const GET: &[u8] = b"GET /row HTTP/1.1\r\nHost: localhost\r\n";
const POST: &[u8] = b"POST /row HTTP/1.1\r\nHost: localhost\r\n";
const CHUNKED: &[u8] = b"Transfer-Encoding: chunked\r\n";
const END: &[u8] = b"\r\n";
/// 43 bytes, or 2b.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// A body of one chunk, from its size on; and its end.
const CHUNK: &[u8] = b"5\r\nhello\r\n";
const LAST: &[u8] = b"0\r\n\r\n";
