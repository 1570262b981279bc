//! Heads whose length can be read in two ways, or in none.

use super::{
    CHUNK, CHUNKED, Class, Comes, END, GET, LAST, NEXT, POST,
    Peer::{Passes, PassesChanged, Refuses},
    Row, SMUGGLED,
};

rows! { Comes::Nothing;
    // Both (RFC 9112, section 6.1): the connection must end behind such a message.
    "CL.TE" Ambiguous both_lengths 400, Refuses(400), PassesChanged,
        [POST, b"Content-Length: 48\r\n", CHUNKED, END, LAST, SMUGGLED];
    "CL.TE, the coding first" Ambiguous both_lengths 400, Refuses(400), PassesChanged,
        [POST, CHUNKED, b"Content-Length: 48\r\n", END, LAST, SMUGGLED];
    "TE.CL" Ambiguous both_lengths 400, Refuses(400), PassesChanged,
        [POST, b"Content-Length: 4\r\n", CHUNKED, END, b"2b\r\n", SMUGGLED, b"\r\n", LAST];
    "TE.CL, the coding first" Ambiguous both_lengths 400, Refuses(400), PassesChanged,
        [POST, CHUNKED, b"Content-Length: 4\r\n", END, b"2b\r\n", SMUGGLED, b"\r\n", LAST];
    "CL.0 and a coding" Ambiguous both_lengths 400, Refuses(400), PassesChanged,
        [POST, b"Content-Length: 0\r\n", CHUNKED, END, CHUNK, LAST];
    "a coding behind a bare LF, and a length" Ambiguous both_lengths 400, Refuses(400), PassesChanged,
        [POST, b"Content-Length: 48\r\nX-Odd: a\nTransfer-Encoding: chunked\r\n", END, LAST, SMUGGLED];

    // Content-Length (RFC 9110, section 8.6; RFC 9112, section 6.3).
    "two lengths, the lesser first" Severe repeated_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: 0\r\nContent-Length: 43\r\n", END, SMUGGLED];
    "two lengths, the greater first" Severe repeated_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: 43\r\nContent-Length: 0\r\n", END, SMUGGLED];
    "two equal lengths" Ambiguous repeated_length 400, Refuses(400), Passes,
        [POST, b"Content-Length: 5\r\nContent-Length: 5\r\n", END, b"hello"];
    "a list of equal lengths" Severe repeated_length 400, Refuses(400), PassesChanged,
        [POST, b"Content-Length: 5, 5\r\n", END, b"hello"];
    "a list of lengths" Severe repeated_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: 0, 43\r\n", END, SMUGGLED];
    "a length and a comma" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: 43,\r\n", END, SMUGGLED];
    "a length with a plus" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: +43\r\n", END, SMUGGLED];
    "a length with a minus" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: -43\r\n", END, SMUGGLED];
    "a length with a space in it" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: 4 3\r\n", END, SMUGGLED];
    "a hexadecimal length" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: 0x2b\r\n", END, SMUGGLED];
    "an empty length" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length:\r\n", END, SMUGGLED];
    "a length over 64 bits" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: 18446744073709551659\r\n", END, SMUGGLED];
    "a length in other digits" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: \xd9\xa4\xd9\xa3\r\n", END, SMUGGLED];
    "a length with a fraction" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: 43.0\r\n", END, SMUGGLED];
    "a quoted length" Severe bad_length 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: \"43\"\r\n", END, SMUGGLED];
    "a length behind a vertical tab" Severe bad_value 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length: \x0b43\r\n", END, SMUGGLED];
    "Content-Length with an underscore" Ambiguous lookalike 400, PassesChanged, Passes,
        [POST, b"Content_Length: 40\r\n", END, NEXT];
    "Content-Length, then a space" Severe space_before_colon 400, Refuses(400), Refuses(400),
        [POST, b"Content-Length : 43\r\n", END, SMUGGLED];

    // Transfer-Encoding (RFC 9112, sections 6.1 and 6.3).
    "a coding nobody knows" Severe bad_transfer_encoding 400, Refuses(501), Refuses(400),
        [POST, b"Transfer-Encoding: xchunked\r\n", END, LAST, SMUGGLED];
    "identity" Severe bad_transfer_encoding 400, Refuses(501), Refuses(400),
        [POST, b"Transfer-Encoding: identity\r\n", END, LAST, SMUGGLED];
    "chunked, then identity" Severe bad_transfer_encoding 400, Refuses(501), Refuses(400),
        [POST, b"Transfer-Encoding: chunked, identity\r\n", END, LAST, SMUGGLED];
    "identity, then chunked" Severe unknown_coding 501, Refuses(501), Refuses(422),
        [POST, b"Transfer-Encoding: identity, chunked\r\n", END, CHUNK, LAST];
    "gzip alone" Severe bad_transfer_encoding 400, Refuses(501), Refuses(400),
        [POST, b"Transfer-Encoding: gzip\r\n", END, LAST, SMUGGLED];
    "gzip, then chunked" Severe unknown_coding 501, Refuses(501), Refuses(422),
        [POST, b"Transfer-Encoding: gzip, chunked\r\n", END, CHUNK, LAST];
    "chunked twice" Severe bad_transfer_encoding 400, Refuses(501), Refuses(400),
        [POST, b"Transfer-Encoding: chunked, chunked\r\n", END, CHUNK, LAST];
    "chunked in two lines" Severe bad_transfer_encoding 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, CHUNKED, END, CHUNK, LAST];
    "chunked and identity in two lines" Severe bad_transfer_encoding 400, Refuses(400), Refuses(400),
        [POST, CHUNKED, b"Transfer-Encoding: identity\r\n", END, LAST, SMUGGLED];
    "chunked and a comma" Severe bad_transfer_encoding 400, Refuses(501), Passes,
        [POST, b"Transfer-Encoding: chunked,\r\n", END, b"2b\r\n", SMUGGLED, b"\r\n", LAST];
    "a comma and chunked" Severe bad_transfer_encoding 400, Refuses(501), Refuses(422),
        [POST, b"Transfer-Encoding: , chunked\r\n", END, b"2b\r\n", SMUGGLED, b"\r\n", LAST];
    "chunked with a parameter" Severe bad_transfer_encoding 400, Refuses(501), Refuses(400),
        [POST, b"Transfer-Encoding: chunked;q=1\r\n", END, LAST, SMUGGLED];
    "chunked in quotes" Severe bad_transfer_encoding 400, Refuses(501), Refuses(400),
        [POST, b"Transfer-Encoding: \"chunked\"\r\n", END, LAST, SMUGGLED];
    "chunked behind a vertical tab" Severe bad_value 400, Refuses(501), Refuses(400),
        [POST, b"Transfer-Encoding:\x0bchunked\r\n", END, LAST, SMUGGLED];
    "an empty coding, and a length" Severe bad_transfer_encoding 400, Refuses(501), Refuses(400),
        [POST, b"Transfer-Encoding:\r\nContent-Length: 48\r\n", END, LAST, SMUGGLED];
    "a folded coding, and a length" Severe bad_transfer_encoding 400, Refuses(400), PassesChanged,
        [POST, b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 48\r\n", END, LAST, SMUGGLED];
    "a coding in HTTP/1.0" Severe bad_transfer_encoding 400, Refuses(400), Passes,
        [b"POST /row HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n", CHUNKED, END, LAST, SMUGGLED];
    "Transfer-Encoding, then a space" Severe space_before_colon 400, Refuses(400), Refuses(400),
        [POST, b"Transfer-Encoding : chunked\r\nContent-Length: 48\r\n", END, LAST, SMUGGLED];
    "Transfer-Encoding, then a tab" Severe space_before_colon 400, Refuses(400), Refuses(400),
        [POST, b"Transfer-Encoding\t: chunked\r\nContent-Length: 48\r\n", END, LAST, SMUGGLED];
    "Transfer-Encoding with an underscore" Ambiguous lookalike 400, PassesChanged, Passes,
        [POST, b"Transfer_Encoding: chunked\r\nContent-Length: 48\r\n", END, LAST, SMUGGLED];
    "Transfer-Encoding with a dotless i" Severe bad_name 400, PassesChanged, Refuses(400),
        [POST, b"Transfer-Encod\xc4\xb1ng: chunked\r\nContent-Length: 48\r\n", END, LAST, SMUGGLED];
    "Transfer-Encoding behind a control character" Severe bad_name 400, Refuses(400), Refuses(400),
        [POST, b"\x01Transfer-Encoding: chunked\r\nContent-Length: 48\r\n", END, LAST, SMUGGLED];

    // Bodies where none is looked for (RFC 9110, sections 9.3 and 7.8).
    "GET with a length" Ambiguous body_unexpected 400, Passes, Passes,
        [GET, b"Content-Length: 43\r\n", END, SMUGGLED];
    "GET with a coding" Ambiguous body_unexpected 400, PassesChanged, Passes,
        [GET, CHUNKED, END, b"2b\r\n", SMUGGLED, b"\r\n", LAST];
    "HEAD with a length" Ambiguous body_unexpected 400, Passes, Passes,
        [b"HEAD /row HTTP/1.1\r\nHost: localhost\r\nContent-Length: 43\r\n", END, SMUGGLED];
    "another protocol, and a body" Ambiguous body_unexpected 400, PassesChanged, PassesChanged,
        [POST, b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            b"Content-Length: 43\r\n", END, SMUGGLED];
}
