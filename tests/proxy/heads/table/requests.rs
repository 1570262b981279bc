//! Heads whose request line or host is malformed.

use super::{
    Class, Comes, END, GET, NEXT,
    Peer::{Closes, Passes, PassesChanged, Refuses},
    Row,
};

rows! { Comes::Nothing;
    // The request line (RFC 9112, sections 2.2 and 3).
    "two spaces behind the method" Severe bad_request_line 400, Passes, Passes,
        [b"GET  /row HTTP/1.1\r\nHost: localhost\r\n", END];
    "two spaces before the version" Severe bad_request_line 400, Passes, Passes,
        [b"GET /row  HTTP/1.1\r\nHost: localhost\r\n", END];
    "tabs for spaces" Severe bad_request_line 400, Refuses(400), Passes,
        [b"GET\t/row\tHTTP/1.1\r\nHost: localhost\r\n", END];
    "a space before the method" Severe bad_request_line 400, Refuses(400), Refuses(400),
        [b" GET /row HTTP/1.1\r\nHost: localhost\r\n", END];
    "a space behind the version" Severe bad_request_line 400, Passes, Refuses(400),
        [b"GET /row HTTP/1.1 \r\nHost: localhost\r\n", END];
    "a word behind the version" Severe bad_request_line 400, Refuses(400), Refuses(400),
        [b"GET /row HTTP/1.1 /smuggled\r\nHost: localhost\r\n", END];
    "no target" Severe bad_request_line 400, Refuses(400), Refuses(400),
        [b"GET HTTP/1.1\r\nHost: localhost\r\n", END];
    "an empty line before the request" Acceptable empty_lines 400, Passes, Passes,
        [b"\r\n", GET, END];
    "five empty lines before the request" Ambiguous empty_lines 400, Passes, Passes,
        [b"\r\n\r\n\r\n\r\n\r\n", GET, END];
    "an empty line of LF before the request" Ambiguous empty_lines 400, Passes, Passes,
        [b"\n", GET, END];

    // The version (RFC 9112, section 2.3; RFC 9110, section 15.6.6).
    "no version" Severe bad_request_line 400, Passes, Refuses(400),
        [b"GET /row\r\n\r\n"];
    "HTTP/0.9" Severe other_version 505, Refuses(400), Passes,
        [b"GET /row HTTP/0.9\r\nHost: localhost\r\n", END];
    "HTTP/1.2" Severe other_version 505, Passes, Passes,
        [b"GET /row HTTP/1.2\r\nHost: localhost\r\n", END];
    "HTTP/2.0" Severe other_version 505, Refuses(505), Passes,
        [b"GET /row HTTP/2.0\r\nHost: localhost\r\n", END];
    "the preface of HTTP/2" Severe other_version 505, Refuses(400), Closes,
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    "a version in lower case" Severe bad_version 400, Refuses(400), Refuses(400),
        [b"GET /row http/1.1\r\nHost: localhost\r\n", END];
    "letters behind the version" Severe bad_version 400, Refuses(400), Refuses(400),
        [b"GET /row HTTP/1.1x\r\nHost: localhost\r\n", END];
    "a version of more digits" Severe bad_version 400, Passes, Refuses(400),
        [b"GET /row HTTP/1.01\r\nHost: localhost\r\n", END];
    "another protocol's version" Severe bad_version 400, Refuses(400), Refuses(400),
        [b"GET /row ICAP/1.0\r\nHost: localhost\r\n", END];

    // The method (RFC 9110, section 9.1).
    "a bracket in the method" Severe bad_method 400, Refuses(400), Refuses(400),
        [b"G(T /row HTTP/1.1\r\nHost: localhost\r\n", END];
    "a control character in the method" Severe bad_method 400, Refuses(400), Refuses(400),
        [b"GE\x01T /row HTTP/1.1\r\nHost: localhost\r\n", END];
    "a letter beyond ASCII in the method" Severe bad_method 400, Refuses(400), Refuses(400),
        [b"G\xc3\x8bT /row HTTP/1.1\r\nHost: localhost\r\n", END];
    "CONNECT" Severe connect 501, Refuses(400), PassesChanged,
        [b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n", END, NEXT];

    // The target (RFC 9112, section 3.2).
    "a space in the target" Severe bad_request_line 400, Refuses(400), Refuses(400),
        [b"GET /row a HTTP/1.1\r\nHost: localhost\r\n", END];
    "a tab in the target" Severe bad_target 400, Refuses(400), Refuses(400),
        [b"GET /row\ta HTTP/1.1\r\nHost: localhost\r\n", END];
    "DEL in the target" Severe bad_target 400, Refuses(400), Refuses(400),
        [b"GET /row\x7f HTTP/1.1\r\nHost: localhost\r\n", END];
    "a fragment" Severe bad_target 400, Passes, Refuses(400),
        [b"GET /row#a HTTP/1.1\r\nHost: localhost\r\n", END];
    "UTF-8 in the target" Ambiguous bad_target 400, Passes, Refuses(400),
        [b"GET /row/\xc3\xb6 HTTP/1.1\r\nHost: localhost\r\n", END];
    "a backslash in the target" Severe bad_target 400, Passes, Passes,
        [b"GET /row\\a HTTP/1.1\r\nHost: localhost\r\n", END];
    "a quote in the target" Ambiguous bad_target 400, Passes, Passes,
        [b"GET /row\"a HTTP/1.1\r\nHost: localhost\r\n", END];
    "a target without a slash" Severe bad_target 400, Refuses(400), Refuses(400),
        [b"GET row HTTP/1.1\r\nHost: localhost\r\n", END];
    "GET of a host and port" Severe bad_target 400, Refuses(400), Passes,
        [b"GET localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n", END];
    "GET of *" Severe bad_target 400, Refuses(400), Passes,
        [b"GET * HTTP/1.1\r\nHost: localhost\r\n", END];
    "a target with another scheme" Severe bad_target 400, PassesChanged, Passes,
        [b"GET ftp://localhost/row HTTP/1.1\r\nHost: localhost\r\n", END];

    // The host (RFC 9112, section 3.2; RFC 9110, sections 4.2 and 7.2).
    "no Host" Severe no_host 400, Refuses(400), Passes,
        [b"GET /row HTTP/1.1\r\n", END];
    "no Host, and a request behind it" Severe no_host 400, Refuses(400), Passes,
        [b"GET /row HTTP/1.1\r\n", END, NEXT];
    "a target with its host, and no Host" Severe no_host 400, Refuses(400), Passes,
        [b"GET https://localhost/row HTTP/1.1\r\n", END];
    "two equal Hosts" Severe repeated_host 400, Refuses(400), Passes,
        [GET, b"Host: localhost\r\n", END];
    "two Hosts" Severe repeated_host 400, Refuses(400), Refuses(400),
        [GET, b"Host: other.example\r\n", END];
    "an empty Host" Severe bad_host 400, Refuses(400), Passes,
        [b"GET /row HTTP/1.1\r\nHost:\r\n", END];
    "Host with a user" Severe bad_host 400, Passes, Passes,
        [b"GET /row HTTP/1.1\r\nHost: user@localhost\r\n", END];
    "Host with a path" Severe bad_host 400, Refuses(400), Passes,
        [b"GET /row HTTP/1.1\r\nHost: localhost/x\r\n", END];
    "Host with two ports" Severe bad_host 400, Passes, Passes,
        [b"GET /row HTTP/1.1\r\nHost: localhost:1:2\r\n", END];
    "Host with a port that is no number" Severe bad_host 400, Passes, Passes,
        [b"GET /row HTTP/1.1\r\nHost: localhost:x\r\n", END];
    "Host with a comma" Severe bad_host 400, Refuses(400), Passes,
        [b"GET /row HTTP/1.1\r\nHost: localhost, other.example\r\n", END];
    "Host with a space" Severe bad_host 400, Refuses(400), Passes,
        [b"GET /row HTTP/1.1\r\nHost: localhost other.example\r\n", END];
    "Host with an open bracket" Severe bad_host 400, Passes, Passes,
        [b"GET /row HTTP/1.1\r\nHost: [::1\r\n", END];
    "Host with a letter beyond ASCII" Severe bad_host 400, Passes, Passes,
        [b"GET /row HTTP/1.1\r\nHost: l\xc3\xb6calhost\r\n", END];
    "a target with another host" Ambiguous host_mismatch 400, PassesChanged, Refuses(400),
        [b"GET https://localhost/row HTTP/1.1\r\nHost: other.example\r\n", END];
    "a target with another port" Ambiguous host_mismatch 400, PassesChanged, Refuses(400),
        [b"GET https://localhost:8443/row HTTP/1.1\r\nHost: localhost\r\n", END];
    "a target with a user" Severe bad_host 400, Refuses(400), Passes,
        [b"GET https://user@localhost/row HTTP/1.1\r\nHost: localhost\r\n", END];
    "a target with an empty host" Severe bad_host 400, Refuses(400), Passes,
        [b"GET https:///row HTTP/1.1\r\nHost: localhost\r\n", END];
}
