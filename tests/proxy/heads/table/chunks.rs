//! Good heads whose chunks are malformed (RFC 9112, section 7.1; RFC 9110, section 6.5.1).

use super::{
    CHUNK, CHUNKED, Class, Comes, END, LAST, POST,
    Peer::{Passes, PassesBoth, PassesChanged, Refuses, Varies},
    Row, SMUGGLED,
};

rows! { Comes::Broken;
    "a size with 0x" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"0x2b\r\n", SMUGGLED, b"\r\n", LAST];
    "a size with a plus" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"+2b\r\n", SMUGGLED, b"\r\n", LAST];
    "a size with a minus" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"-2b\r\n", SMUGGLED, b"\r\n", LAST];
    "a space before a size" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b" 2b\r\n", SMUGGLED, b"\r\n", LAST];
    "a space behind a size" Severe bad_chunk 400, PassesChanged, Passes,
        [POST, CHUNKED, END, b"2b \r\n", SMUGGLED, b"\r\n", LAST];
    "a size over 64 bits" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"1000000000000002b\r\n", SMUGGLED, b"\r\n", LAST];
    "no size" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"\r\n", SMUGGLED, b"\r\n", LAST];
    "an extension and no size" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b";a=b\r\n", SMUGGLED, b"\r\n", LAST];
    "a size with an underscore" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"2_b\r\n", SMUGGLED, b"\r\n", LAST];
    "NUL behind a size" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"2b\x00\r\n", SMUGGLED, b"\r\n", LAST];
    "LF behind a size" Severe bad_chunk 400, PassesChanged, Passes,
        [POST, CHUNKED, END, b"2b\n", SMUGGLED, b"\r\n", LAST];
    "CR behind a size" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"2b\r", SMUGGLED, b"\r\n", LAST];
    "CR in an extension" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"2b;a=\rb\r\n", SMUGGLED, b"\r\n", LAST];
    "LF in an extension" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"2;\nxx\r\n2b\r\n0\r\n\r\n", SMUGGLED, b"\r\n", LAST];
    "a line's end in a quoted extension" Severe bad_chunk 400, PassesChanged, Passes,
        [POST, CHUNKED, END, b"2b;a=\"\r\n", SMUGGLED, b"\r\n", LAST];
    "NUL in an extension" Severe bad_chunk 400, PassesChanged, Passes,
        [POST, CHUNKED, END, b"2b;a=\x00\r\n", SMUGGLED, b"\r\n", LAST];
    "an extension of 20,000 bytes" Severe bad_chunk 400, PassesChanged, Refuses(400),
        [POST, CHUNKED, END, b"2b;", b"\xff*20000", b"\r\n", SMUGGLED, b"\r\n", LAST];
    "nothing behind a chunk" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"5\r\nhello", LAST, SMUGGLED];
    "more behind a chunk" Severe bad_chunk 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, b"5\r\nhello!!", LAST, SMUGGLED];
    "LF behind a chunk" Severe bad_chunk 400, PassesBoth, PassesBoth,
        [POST, CHUNKED, END, b"5\r\nhello\n", LAST, SMUGGLED];
    "LF behind the last size" Severe bad_chunk 400, PassesBoth, PassesBoth,
        [POST, CHUNKED, END, CHUNK, b"0\n\r\n", SMUGGLED];
    "LF at the body's end" Severe bad_trailer 400, PassesBoth, PassesBoth,
        [POST, CHUNKED, END, CHUNK, b"0\r\n\n", SMUGGLED];
    "Content-Length behind the body" Severe bad_trailer 400, PassesChanged, Passes,
        [POST, CHUNKED, END, CHUNK, b"0\r\nContent-Length: 43\r\n\r\n"];
    "Transfer-Encoding behind the body" Severe bad_trailer 400, PassesChanged, Passes,
        [POST, CHUNKED, END, CHUNK, b"0\r\nTransfer-Encoding: chunked\r\n\r\n"];
    "Host behind the body" Severe bad_trailer 400, PassesChanged, Passes,
        [POST, CHUNKED, END, CHUNK, b"0\r\nHost: other.example\r\n\r\n"];
    "a request for a trailer" Severe bad_trailer 400, PassesChanged, Refuses(400),
        [POST, CHUNKED, END, CHUNK, b"0\r\n", SMUGGLED];
    "a trailer and LF" Severe bad_trailer 400, PassesBoth, PassesBoth,
        [POST, CHUNKED, END, CHUNK, b"0\r\nX-Odd: a\n\r\n", SMUGGLED];
    "CR in a trailer" Severe bad_trailer 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, END, CHUNK, b"0\r\nX-Odd: a\rb\r\n\r\n", SMUGGLED];
    "NUL in a trailer" Severe bad_trailer 400, PassesBoth, PassesBoth,
        [POST, CHUNKED, END, CHUNK, b"0\r\nX-Odd: a\x00\r\n\r\n", SMUGGLED];
    "a trailer with a space before its colon" Severe bad_trailer 400, PassesChanged, Varies,
        [POST, CHUNKED, END, CHUNK, b"0\r\nX-Odd : a\r\n\r\n"];
    "a folded trailer" Severe bad_trailer 400, PassesChanged, Passes,
        [POST, CHUNKED, END, CHUNK, b"0\r\nX-Odd: a\r\n b\r\n\r\n"];
    "trailers of 100,000 bytes" Severe bad_trailer 400, PassesChanged, Refuses(400),
        [POST, CHUNKED, END, CHUNK, b"0\r\nX-Odd: ", b"\xff*100000", b"\r\n\r\n"];
}
