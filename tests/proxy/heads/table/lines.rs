//! Heads whose lines, names or values are malformed.

use super::{
    CHUNKED, Class, Comes, END, GET, LAST, POST,
    Peer::{Passes, PassesChanged, Refuses},
    Row, SMUGGLED,
};

rows! { Comes::Nothing;
    // The ends of lines (RFC 9112, section 2.2).
    "LF behind every line" Acceptable bare_lf 400, Passes, Passes,
        [b"GET /row HTTP/1.1\nHost: localhost\n\n"];
    "LF behind the request line" Acceptable bare_lf 400, Passes, Passes,
        [b"GET /row HTTP/1.1\nHost: localhost\r\n", END];
    "LF behind a header" Acceptable bare_lf 400, Passes, Passes,
        [GET, b"X-Odd: a\n", END];
    "LF at the head's end" Acceptable bare_lf 400, Passes, Passes,
        [GET, b"\n"];
    "CR in a value" Severe bare_cr 400, Refuses(400), Refuses(400),
        [POST, b"X-Odd: a\rContent-Length: 43\r\n", END, SMUGGLED];
    "CR in a name" Severe bare_cr 400, Refuses(400), Refuses(400),
        [GET, b"X\rOdd: a\r\n", END];
    "CR in the target" Severe bare_cr 400, Refuses(400), Refuses(400),
        [b"GET /row\rx HTTP/1.1\r\nHost: localhost\r\n", END];
    "CR behind the request line" Severe bare_cr 400, Refuses(400), Refuses(400),
        [b"GET /row HTTP/1.1\rHost: localhost\r\n", END];
    "CR before CRLF" Severe bare_cr 400, Passes, Refuses(400),
        [GET, b"X-Odd: a\r\r\n", END];
    "CR as an empty line" Severe bare_cr 400, Refuses(400), Refuses(400),
        [GET, b"\rX-Odd: a\r\n", END];

    // Folded lines (RFC 9112, section 5.2), and blanks where a header should begin.
    "a line folded with a space" Severe obs_fold 400, Refuses(400), PassesChanged,
        [GET, b"X-Odd: a\r\n b\r\n", END];
    "a line folded with a tab" Severe obs_fold 400, Refuses(400), PassesChanged,
        [GET, b"X-Odd: a\r\n\tb\r\n", END];
    "a coding that looks folded" Severe obs_fold 400, Refuses(400), PassesChanged,
        [POST, b"Content-Length: 48\r\nX-Odd: a\r\n Transfer-Encoding: chunked\r\n", END, LAST, SMUGGLED];
    "a space before the first header" Severe obs_fold 400, Refuses(400), Refuses(400),
        [b"POST /row HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: localhost\r\nContent-Length: 48\r\n",
            END, LAST, SMUGGLED];
    "a line of blanks" Severe obs_fold 400, Refuses(400), Refuses(400),
        [GET, b"X-Odd: a\r\n \t\r\n", SMUGGLED];

    // Names and values (RFC 9110, sections 5.1 and 5.5; RFC 9112, section 5.1).
    "a space before the colon" Severe space_before_colon 400, Refuses(400), Refuses(400),
        [GET, b"X-Odd : a\r\n", END];
    "no colon" Severe bad_name 400, PassesChanged, Refuses(400),
        [GET, b"X-Odd\r\n", END];
    "no name" Severe bad_name 400, Refuses(400), Refuses(400),
        [GET, b": a\r\n", END];
    "a space in a name" Severe bad_name 400, Refuses(400), Refuses(400),
        [GET, b"X Odd: a\r\n", END];
    "a bracket in a name" Severe bad_name 400, PassesChanged, Refuses(400),
        [GET, b"X(Odd: a\r\n", END];
    "a letter beyond ASCII in a name" Severe bad_name 400, PassesChanged, Refuses(400),
        [GET, b"X-\xc3\xb6dd: a\r\n", END];
    "a control character in a name" Severe bad_name 400, Refuses(400), Refuses(400),
        [GET, b"X\x01Odd: a\r\n", END];
    "NUL in a value" Severe nul 400, Refuses(400), Passes,
        [GET, b"X-Odd: a\x00b\r\n", END];
    "NUL in a name" Severe nul 400, Refuses(400), Refuses(400),
        [GET, b"X\x00Odd: a\r\n", END];
    "NUL in the target" Severe nul 400, Refuses(400), Refuses(400),
        [b"GET /row\x00 HTTP/1.1\r\nHost: localhost\r\n", END];
    "NUL in a coding" Severe nul 400, Refuses(400), Refuses(400),
        [POST, b"Transfer-Encoding: chunked\x00\r\nContent-Length: 48\r\n", END, LAST, SMUGGLED];
    "a control character in a value" Severe bad_value 400, Passes, Passes,
        [GET, b"X-Odd: a\x01b\r\n", END];
    "DEL in a value" Severe bad_value 400, Passes, Passes,
        [GET, b"X-Odd: a\x7fb\r\n", END];

    // Headers that `Connection` must not take away (RFC 9110, section 7.6.1).
    "Connection hides the length" Ambiguous connection_hides 400, Passes, Passes,
        [POST, b"Connection: Content-Length\r\nContent-Length: 43\r\n", END, SMUGGLED];
    "Connection hides the coding and Host" Ambiguous connection_hides 400, PassesChanged, Passes,
        [POST, b"Connection: Transfer-Encoding, Host\r\n", CHUNKED, END, b"2b\r\n", SMUGGLED, b"\r\n", LAST];
    "Connection hides Host" Ambiguous connection_hides 400, Passes, Passes,
        [GET, b"Connection: host\r\n", END];
    "Connection hides X-Forwarded-For" Ambiguous connection_hides 400, Passes, Passes,
        [GET, b"Connection: keep-alive, X-Forwarded-For\r\nX-Forwarded-For: 192.0.2.7\r\n", END];
    "Connection hides Authorization" Ambiguous connection_hides 400, Passes, Passes,
        [GET, b"Connection: keep-alive, Authorization\r\nAuthorization: Basic eDp5\r\n", END];

    // Too much of it (RFC 9110, sections 15.5.15 and 5.4; RFC 6585, section 5).
    "a target of 70,000 bytes" Severe long_request_line 414, Refuses(414), Refuses(400),
        [b"GET /row", b"\xff*70000", b" HTTP/1.1\r\nHost: localhost\r\n", END];
    "a value of 40,000 bytes" Severe long_header 431, Refuses(400), Refuses(400),
        [GET, b"X-Odd: ", b"\xff*40000", b"\r\n", END];
    "a value of 100,000 bytes" Severe long_head 431, Refuses(400), Refuses(400),
        [GET, b"X-Odd: ", b"\xff*100000", b"\r\n", END];
    "200 headers" Severe many_headers 431, Passes, Refuses(400),
        [GET, b"\xff#200", END];
}
