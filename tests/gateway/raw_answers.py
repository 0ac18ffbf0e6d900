"""Raw answers of upstreams: what each one means, and those that mean two things and so nothing."""

from approval.gateway.connection import MAX_HEAD, MAX_INTERIM

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = HEAD + b"Content-Length: 3\r\n\r\n"

ANSWERS = {
    "sized": (SIZED + b"abc", 200, b"abc"),
    "empty": (HEAD + b"Content-Length: 0\r\n\r\n", 200, b""),
    "odd headers": (
        HEAD + b"X-A:\r\nX-B: \t \r\nX-A: \xe9 b \r\ncontent-LENGTH: 3 \r\n\r\nabc",
        200,
        b"abc",
    ),
    "chunked": (CHUNKED + b"3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", 200, b"abcd"),
    "chunked in capitals": (HEAD + b"TRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n", 200, b""),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nX-A: late\r\nX-C:\r\n\r\n", 200, b"abc"),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + SIZED
        + b"abc",
        200,
        b"abc",
    ),
    "interim with a length": (
        b"HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n\r\n" + SIZED + b"abc",
        200,
        b"abc",
    ),
    "no reason": (b"HTTP/1.1 404\r\nContent-Length: 1\r\n\r\nx", 404, b"x"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
    "identity": (HEAD + b"Content-Encoding: Identity\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
    "old, kept": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
        200,
        b"abc",
    ),
    "no upgrade after all": (
        HEAD + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 3\r\n\r\nabc",
        200,
        b"abc",
    ),
}
"""Whole answers after which the connection can carry another request."""

LAST_ANSWERS = {
    "close": (HEAD + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "a second answer": (SIZED + b"abc" + SIZED + b"abc", b"abc"),
    "the start of a second answer": (SIZED + b"abcH", b"abc"),
    "an empty answer and a second": (HEAD + b"Content-Length: 0\r\n\r\nHTTP/1.1", b""),
    "a body too long": (SIZED + b"abcdef", b"abc"),
    "bytes after close": (HEAD + b"Connection: close\r\nContent-Length: 3\r\n\r\nabcdef", b"abc"),
    "bytes after the last chunk": (CHUNKED + b"3\r\nabc\r\n0\r\n\r\nx", b"abc"),
    "a body that may not be": (b"HTTP/1.1 204 N\r\nContent-Length: 3\r\n\r\nabc", b""),
}
"""Whole answers that end the connection, though the upstream leaves it open."""

MALFORMED = {
    "length and chunked": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
    "one length twice": HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
    "list of lengths": HEAD + b"Content-Length: 3, 3\r\n\r\n",
    "signed length": HEAD + b"Content-Length: +3\r\n\r\n",
    "negative length": HEAD + b"Content-Length: -3\r\n\r\n",
    "endless length": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "no length": HEAD + b"Content-Length:\r\n\r\n",
    "gzip transfer": HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in two lines": HEAD
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "nearly chunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "vertical tab chunked": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "old and chunked": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "gzip beside identity": HEAD
    + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "bare LF after a header": HEAD + b"Content-Length: 3\n\r\nabc",
    "bare LF in the reason": b"HTTP/1.1 200 O\nX: y\r\nContent-Length: 3\r\n\r\nabc",
    "bare CR in a header": HEAD + b"A: b\rC: d\r\nContent-Length: 3\r\n\r\nabc",
    "bare CR before the body": HEAD + b"Content-Length: 3\r\n\rabc",
    "folded header": HEAD + b"A: b\r\n c\r\nContent-Length: 3\r\n\r\nabc",
    "space before the first header": HEAD + b" A: b\r\nContent-Length: 3\r\n\r\nabc",
    "space before the colon": HEAD + b"Content-Length : 3\r\n\r\nabc",
    "no name": HEAD + b": b\r\n\r\n",
    "no colon": HEAD + b"Content-Length\r\n\r\n",
    "NUL in a value": HEAD + b"A: b\0c\r\nContent-Length: 3\r\n\r\nabc",
    "odd name": HEAD + b"A\xff: b\r\n\r\n",
    "empty line first": b"\r\n" + SIZED + b"abc",
    "HTTP 0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP 1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP 2": b"HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "a request": b"POST / HTTP/1.1\r\n\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "status 0": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nfoo",
    "101 without a protocol": b"HTTP/1.1 101 S\r\n\r\nfoo",
    "interim for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1) + SIZED + b"abc",
    "large headers": HEAD + b"A: " + b"b" * MAX_HEAD + b"\r\nContent-Length: 3\r\n\r\nabc",
    "many headers": HEAD + b"a:\r\n" * (MAX_HEAD // 4) + b"Content-Length: 3\r\n\r\nabc",
    "endless header": HEAD + b"A: " + b"b" * MAX_HEAD,
    "endless name": HEAD + b"A" * MAX_HEAD,
    "endless reason": b"HTTP/1.1 200 " + b"O" * MAX_HEAD,
    "endless chunk extension": CHUNKED + b"3;" + b"x" * MAX_HEAD,
    "endless trailer": CHUNKED + b"0\r\nA: " + b"b" * MAX_HEAD,
    "large trailers": CHUNKED + b"0\r\nA: " + b"b" * MAX_HEAD + b"\r\n\r\n",
    "chunk with LF": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "chunk too long": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "chunk without an end": CHUNKED + b"3\r\nabc0\r\n\r\n",
    "negative chunk": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "0x chunk": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "spaced chunk": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
    "overflowing chunk": CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "length in a trailer": CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n",
}

BROKEN_OFF = {
    "nothing": b"",
    "half a head": HEAD + b"Content-Le",
    "interim only": b"HTTP/1.1 100 Continue\r\n\r\n",
    "half a body": SIZED + b"ab",
    "half a chunk": CHUNKED + b"3\r\nab",
    "no last chunk": CHUNKED + b"3\r\nabc\r\n",
}
"""Answers that end too early when the connection does."""
