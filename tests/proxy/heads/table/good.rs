//! What RFC 9112 allows, however odd it looks.

use super::{
    CHUNK, CHUNKED, Class, Comes, END, GET, LAST, NEXT, POST,
    Peer::{Passes, PassesChanged, Refuses},
    Row, SMUGGLED,
};

rows! { Comes::Whole;
    "GET" Compliant compliant 200, Passes, Passes,
        [GET, END];
    "HEAD" Compliant compliant 200, Passes, Passes,
        [b"HEAD /row HTTP/1.1\r\nHost: localhost\r\n", END];
    "POST with a length" Compliant compliant 200, Passes, Passes,
        [POST, b"Content-Length: 43\r\n", END, SMUGGLED];
    "POST with a length of none" Compliant compliant 200, Passes, Passes,
        [POST, b"Content-Length: 0\r\n", END];
    "GET with a length of none" Compliant compliant 200, Passes, Passes,
        [GET, b"Content-Length: 0\r\n", END];
    "POST without a body" Compliant compliant 200, Passes, Passes,
        [POST, END];
    "DELETE with a body" Compliant compliant 200, Passes, Passes,
        [b"DELETE /row HTTP/1.1\r\nHost: localhost\r\nContent-Length: 43\r\n", END, SMUGGLED];
    "a length with zeros before it" Compliant compliant 200, PassesChanged, Passes,
        [POST, b"Content-Length: 0043\r\n", END, SMUGGLED];
    "blanks around a length" Compliant compliant 200, Refuses(400), Passes,
        [POST, b"Content-Length: \t 43 \t\r\n", END, SMUGGLED];
    "chunked" Compliant compliant 200, PassesChanged, Passes,
        [POST, CHUNKED, END, b"2b\r\n", SMUGGLED, b"\r\n", LAST];
    "chunked in other letters" Compliant compliant 200, PassesChanged, Passes,
        [POST, b"tRANSFER-eNCODING: ChUnKeD\r\n", END, b"2b\r\n", SMUGGLED, b"\r\n", LAST];
    "blanks before chunked" Compliant compliant 200, Refuses(501), Passes,
        [POST, b"Transfer-Encoding: \tchunked \r\n", END, b"2b\r\n", SMUGGLED, b"\r\n", LAST];
    "no chunk but the last" Compliant compliant 200, PassesChanged, Passes,
        [POST, CHUNKED, END, LAST];
    "a size in capitals" Compliant compliant 200, PassesChanged, Passes,
        [POST, CHUNKED, END, b"2B\r\n", SMUGGLED, b"\r\n", LAST];
    "a size with zeros before it" Compliant compliant 200, PassesChanged, Passes,
        [POST, CHUNKED, END, b"0002b\r\n", SMUGGLED, b"\r\n00000\r\n\r\n"];
    "an extension" Compliant compliant 200, PassesChanged, Passes,
        [POST, CHUNKED, END, b"2b;a;b=c\r\n", SMUGGLED, b"\r\n0;d\r\n\r\n"];
    "a quoted extension" Compliant compliant 200, PassesChanged, Passes,
        [POST, CHUNKED, END, b"2b;a=\"b;0 \\\" c\"\r\n", SMUGGLED, b"\r\n", LAST];
    "trailers" Compliant compliant 200, PassesChanged, Passes,
        [POST, b"Trailer: X-Sum\r\n", CHUNKED, END, CHUNK, b"0\r\nX-Sum: 1\r\nX-Empty:\r\n\r\n"];
    "a method nobody knows" Compliant compliant 200, Refuses(400), Passes,
        [b"X-TAKE! /row HTTP/1.1\r\nHost: localhost\r\n", END];
    "a method in lower case" Compliant compliant 200, Refuses(400), Passes,
        [b"get /row HTTP/1.1\r\nHost: localhost\r\n", END];
    "a target with its host" Compliant compliant 200, PassesChanged, Passes,
        [b"GET https://localhost/row HTTP/1.1\r\nHost: localhost\r\n", END];
    "a target with the marks browsers leave" Compliant compliant 200, Passes, Passes,
        [b"GET /row;a=1,2/!$&'()*+:@~%7C?b={c|d}^[e]`&f=/? HTTP/1.1\r\nHost: localhost\r\n", END];
    "Host with a port" Compliant compliant 200, Passes, Passes,
        [b"GET /row HTTP/1.1\r\nHost: localhost:8443\r\n", END];
    "Host in brackets" Compliant compliant 200, Passes, Passes,
        [b"GET /row HTTP/1.1\r\nHost: [::1]:8443\r\n", END];
    "Host as the last header, without blanks" Compliant compliant 200, Passes, Passes,
        [b"GET /row HTTP/1.1\r\nX-Odd:a\r\nhOST:localhost\r\n", END];
    "blanks around a value" Compliant compliant 200, Passes, Passes,
        [GET, b"X-Odd:\t a \tb \t\r\n", END];
    "an empty value" Compliant compliant 200, Passes, Passes,
        [GET, b"X-Odd:\r\nX-Even: \r\n", END];
    "letters beyond ASCII in a value" Compliant compliant 200, Passes, Passes,
        [GET, b"X-Odd: \xc3\xb6\x80\xff\r\n", END];
    "colons and commas in a value" Compliant compliant 200, Passes, Passes,
        [GET, b"X-Odd: Transfer-Encoding: chunked, Content-Length: 43\r\n", END];
    "every mark a name may have" Compliant compliant 200, PassesChanged, Passes,
        [GET, b"X!#$%&'*+-.^`|~0: a\r\n", END];
    "an underscore in a name" Compliant compliant 200, PassesChanged, Passes,
        [GET, b"X_Odd: a\r\n", END];
    "Connection names what is of one hop" Compliant compliant 200, PassesChanged, Passes,
        [GET, b"Connection: keep-alive, TE, X-Hop\r\nTE: trailers\r\nX-Hop: a\r\n", END];
    "h2c is offered" Compliant compliant 200, PassesChanged, Passes,
        [GET, b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", END];
    "an expectation and a body" Compliant compliant 200, PassesChanged, Passes,
        [POST, b"Expect: 100-continue\r\nContent-Length: 43\r\n", END, SMUGGLED];
    "an expectation without a body" Compliant compliant 200, PassesChanged, Passes,
        [GET, b"Expect: 100-continue\r\n", END];
    "HTTP/1.0" Compliant compliant 200, Passes, Passes,
        [b"GET /row HTTP/1.0\r\nConnection: keep-alive\r\n", END];
    "a value of 8,000 bytes" Compliant compliant 200, Passes, Passes,
        [GET, b"Cookie: ", b"\xff*8000", b"\r\n", END];
    "OPTIONS of *" Compliant compliant 200, Refuses(400), Passes,
        [b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n", END];
    "99 headers and a Host" Compliant compliant 200, Passes, Passes,
        [GET, b"\xff#99", END];
    "two requests at once" Compliant compliant 200, Passes, Passes,
        [GET, END, NEXT];
    "a request behind a body" Compliant compliant 200, Passes, Passes,
        [POST, b"Content-Length: 43\r\n", END, SMUGGLED, NEXT];
    "a request behind chunks" Compliant compliant 200, PassesChanged, Passes,
        [POST, CHUNKED, END, b"2b\r\n", SMUGGLED, b"\r\n", LAST, NEXT];
}
