"""Malformed requests as a table, with what a server may do with each (RFC 9110, RFC 9112).

A request inside another's body (`SMUGGLED`) must never be answered: two ends of a connection that read the same bytes
differently are how requests are smuggled (RFC 9112, 11.2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.target import Target

Allowed = Literal["refusal", "closing", "anything"]
"""What an attack may get: one refusal and a closed connection; any one answer and a closed connection, where a server
may read the request in one way as long as nothing follows; or anything clean, where it is odd and not malformed.
"""
REFUSAL: Final = "refusal"
CLOSING: Final = "closing"
ANYTHING: Final = "anything"

CRLF = b"\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: smuggled\r\n\r\n"
FLOOD_HEADERS, LONG_BYTES, HUGE_BYTES = 10_000, 70_000, 300_000


@dataclass(frozen=True)
class Ordinary:
    """An ordinary request of a server, to be damaged: its path, its authority and a body that it answers with 200."""

    target: Target
    body: bytes

    def request(
        self,
        *lines: bytes,
        start: bytes | None = None,
        host: bytes | None = None,
        framing: bytes | None = None,
        body: bytes | None = None,
    ) -> bytes:
        """Return the request with `lines` added, its start line, Host or framing line replaced (b"": left out)."""
        host = b"Host: " + self.target.authority.encode() if host is None else host
        framing = b"Content-Length: %d" % len(self.body) if framing is None else framing
        first = b"POST %b HTTP/1.1" % self.path if start is None else start
        head = [first, *filter(None, [host, b"Content-Type: application/json", framing]), *lines]
        return CRLF.join([*head, b"", self.body if body is None else body])

    @property
    def path(self) -> bytes:
        return self.target.path.encode()

    def chunked(self, body: bytes, *lines: bytes) -> bytes:
        return self.request(*lines, framing=b"Transfer-Encoding: chunked", body=body)

    @property
    def chunk(self) -> bytes:
        """The body as one right chunk, without the last one that ends it."""
        return b"%x\r\n%b\r\n" % (len(self.body), self.body)

    @property
    def length(self) -> int:
        return len(self.body)


@dataclass(frozen=True)
class Attack:
    """One request. `hang_up`: it may leave a server waiting; the caller then ends its side, and no answer is right."""

    name: str
    make: Callable[[Ordinary], bytes]
    allowed: Allowed = REFUSAL
    hang_up: bool = False


def _line(name: str, line: bytes, *, allowed: Allowed = REFUSAL) -> Attack:
    """An ordinary request with one more header line."""
    return Attack(name, lambda one: one.request(line), allowed)


def _start(name: str, make: Callable[[bytes], bytes], *, allowed: Allowed = REFUSAL) -> Attack:
    """An ordinary request with another start line, made of the path."""
    return Attack(name, lambda one: one.request(start=make(one.path)), allowed)


def _framing(name: str, line: bytes) -> Attack:
    """An ordinary request with another framing line."""
    return Attack(name, lambda one: one.request(framing=line), hang_up=True)


def _chunks(name: str, make: Callable[[Ordinary], bytes], *, allowed: Allowed = REFUSAL) -> Attack:
    return Attack(name, lambda one: one.chunked(make(one)), allowed, hang_up=True)


LENGTHS = (
    Attack(
        "Content-Length and Transfer-Encoding",
        lambda one: one.request(
            b"Content-Length: %d" % (5 + len(SMUGGLED)),
            framing=b"Transfer-Encoding: chunked",
            body=b"0\r\n\r\n" + SMUGGLED,
        ),
        CLOSING,
    ),
    Attack(
        "Transfer-Encoding and a Content-Length of part of it",
        lambda one: one.request(
            b"Transfer-Encoding: chunked", framing=b"Content-Length: 4", body=b"0\r\n\r\n" + SMUGGLED
        ),
        CLOSING,
    ),
    Attack(
        "two lengths that differ",
        lambda one: one.request(b"Content-Length: %d" % (one.length + len(SMUGGLED)), body=one.body + SMUGGLED),
        hang_up=True,
    ),
    Attack(
        "two lengths in one line that differ",
        lambda one: one.request(framing=b"Content-Length: %d, %d" % (one.length, one.length + 1)),
        hang_up=True,
    ),
    _framing("an empty length", b"Content-Length: "),
    _framing("a negative length", b"Content-Length: -1"),
    Attack("a length with a sign", lambda one: one.request(framing=b"Content-Length: +%d" % one.length), hang_up=True),
    Attack("a hexadecimal length", lambda one: one.request(framing=b"Content-Length: 0x%x" % one.length), hang_up=True),
    Attack(
        "a length with a fraction", lambda one: one.request(framing=b"Content-Length: %d.0" % one.length), hang_up=True
    ),
    Attack(
        "a length with a blank in it",
        lambda one: one.request(framing=b"Content-Length: %d 0" % one.length),
        hang_up=True,
    ),
    Attack(
        "a length with an underscore",
        lambda one: one.request(framing=b"Content-Length: %d_0" % one.length),
        hang_up=True,
    ),
    _framing("a length past 64 bits", b"Content-Length: 18446744073709551617"),
    _framing("a length of 10,000 digits", b"Content-Length: " + b"9" * 10_000),
    _framing("a length in other digits", "Content-Length: \u0661\u0662".encode()),
    Attack("more body than its length", lambda one: one.request(body=one.body + b"garbage\r\n\r\n"), allowed=ANYTHING),
    Attack("less body than its length, then the end", lambda one: one.request(body=one.body[:-1]), hang_up=True),
)

ENCODINGS = (
    _framing("an unknown encoding", b"Transfer-Encoding: xchunked"),
    _framing("an encoding after chunked", b"Transfer-Encoding: chunked, identity"),
    _framing("chunked twice", b"Transfer-Encoding: chunked, chunked"),
    _framing("chunked with a parameter", b"Transfer-Encoding: chunked;q=1"),
    _framing("an empty encoding", b"Transfer-Encoding: "),
    _framing("chunked behind a vertical tab", b"Transfer-Encoding: \x0bchunked"),
    Attack(
        "chunked in HTTP/1.0",
        lambda one: one.request(
            start=b"POST %b HTTP/1.0" % one.path,
            framing=b"Transfer-Encoding: chunked",
            body=one.chunk + b"0\r\n\r\n" + SMUGGLED,
        ),
        allowed=ANYTHING,
        hang_up=True,
    ),
    Attack(
        "an encoding hidden by a blank before its colon",
        lambda one: one.request(b"Transfer-Encoding : chunked", framing=b"Content-Length: 5", body=b"0\r\n\r\n"),
    ),
    Attack(
        "an encoding hidden by a bare line feed",
        lambda one: one.request(b"X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
        CLOSING,
        hang_up=True,
    ),
)

CHUNKS = (
    _chunks("a chunk size that is no number", lambda one: b"zz\r\n" + one.body + b"\r\n0\r\n\r\n"),
    _chunks("a negative chunk size", lambda _: b"-1\r\n\r\n0\r\n\r\n"),
    _chunks("a chunk size with 0x", lambda one: b"0x" + one.chunk + b"0\r\n\r\n"),
    _chunks("a chunk size with a sign", lambda one: b"+" + one.chunk + b"0\r\n\r\n"),
    _chunks("a chunk size past 64 bits", lambda one: b"1" + b"0" * 16 + b"\r\n" + one.body + b"\r\n0\r\n\r\n"),
    _chunks("an empty chunk size", lambda one: b"\r\n" + one.body + b"\r\n0\r\n\r\n"),
    _chunks("a chunk longer than its size", lambda one: b"1\r\n" + one.body + b"\r\n0\r\n\r\n"),
    _chunks("a chunk without its line end", lambda one: one.chunk[:-2] + b"0\r\n\r\n"),
    _chunks("a chunk ended by a bare line feed", lambda one: one.chunk[:-2] + b"\n0\r\n\r\n"),
    _chunks("a chunk size ended by a bare line feed", lambda one: one.chunk.replace(CRLF, b"\n", 1) + b"0\r\n\r\n"),
    _chunks("a chunk size ended by a bare return", lambda one: one.chunk.replace(CRLF, b"\r", 1) + b"0\r\n\r\n"),
    _chunks(
        "a control character in a chunk's extension",
        lambda one: one.chunk.replace(CRLF, b";a=\x00\r\n", 1) + b"0\r\n\r\n",
    ),
    _chunks("a line feed in a chunk's extension", lambda one: one.chunk.replace(CRLF, b";a=\nb\r\n", 1) + b"0\r\n\r\n"),
    _chunks(
        "an extension of 300 kB",
        lambda one: one.chunk.replace(CRLF, b";" + b"a" * HUGE_BYTES + CRLF, 1) + b"0\r\n\r\n",
        allowed=ANYTHING,
    ),
    _chunks("a length among the trailers", lambda one: one.chunk + b"0\r\nContent-Length: 3\r\n\r\n", allowed=ANYTHING),
    _chunks("10,000 trailers", lambda one: one.chunk + b"0\r\n" + b"X: y\r\n" * FLOOD_HEADERS + CRLF, allowed=ANYTHING),
    _chunks("a last chunk that never ends", lambda one: one.chunk + b"0\r\n"),
    _chunks("no last chunk", lambda one: one.chunk),
)

HEADERS = (
    Attack(
        "bare line feeds for line ends", lambda one: one.request().replace(CRLF, b"\n"), allowed=ANYTHING, hang_up=True
    ),
    Attack("bare returns for line ends", lambda one: one.request().replace(CRLF, b"\r"), hang_up=True),
    _line("a folded line", b"X-Folded: one\r\n two"),
    _line("a folded line that hides an encoding", b"X-Folded: one\r\n\tTransfer-Encoding: chunked"),
    Attack("a blank before the first header", lambda one: one.request(host=b" Host: " + one.target.authority.encode())),
    _line("a blank before the colon", b"X-Blank : one"),
    _line("a blank in a name", b"X Blank: one"),
    _line("an empty name", b": one"),
    _line("no colon", b"X-No-Colon"),
    _line("NUL in a name", b"X-\x00: one"),
    _line("NUL in a value", b"X-Nul: o\x00ne"),
    _line("a bare return in a value", b"X-Return: o\rX-Other: ne"),
    _line("a control character in a value", b"X-Control: o\x07ne"),
    _line("a letter beyond ASCII in a name", "X-Ünlaut: one".encode()),
    _line("a bracket in a name", b"X-(one): two"),
    _line("a value of 70 kB", b"X-Long: " + b"a" * LONG_BYTES, allowed=ANYTHING),
    _line("a name of 70 kB", b"X" * LONG_BYTES + b": one", allowed=ANYTHING),
    _line("10,000 headers", CRLF.join(b"X-%d: y" % number for number in range(FLOOD_HEADERS)), allowed=ANYTHING),
    _line(
        "300 kB of headers",
        CRLF.join(b"X-%d: %b" % (number, b"y" * 1_000) for number in range(HUGE_BYTES // 1_000)),
        allowed=ANYTHING,
    ),
    Attack(
        "headers that never end", lambda one: b"POST %b HTTP/1.1\r\n" % one.path + b"X-More: y\r\n" * FLOOD_HEADERS * 10
    ),
)

HOSTS = (
    Attack("no Host", lambda one: one.request(host=b""), allowed=ANYTHING),
    Attack("two Hosts", lambda one: one.request(b"Host: other"), allowed=ANYTHING),
    Attack("a Host with a user", lambda one: one.request(host=b"Host: user@example.com"), allowed=ANYTHING),
    Attack("a Host with a path", lambda one: one.request(host=b"Host: example.com/path"), allowed=ANYTHING),
)

START_LINES = (
    _start("no version", lambda path: b"POST " + path),
    _start("HTTP/9.9", lambda path: b"POST %b HTTP/9.9" % path),
    _start("HTTP/1.10", lambda path: b"POST %b HTTP/1.10" % path),
    _start("a version in small letters", lambda path: b"POST %b http/1.1" % path),
    _start("another protocol", lambda path: b"POST %b ICAP/1.0" % path),
    _start("a method in small letters", lambda path: b"post %b HTTP/1.1" % path, allowed=ANYTHING),
    _start("a method with a bracket", lambda path: b"PO(ST %b HTTP/1.1" % path),
    _start("an unknown method", lambda path: b"FROB %b HTTP/1.1" % path, allowed=ANYTHING),
    _start("a method of 70 kB", lambda path: b"P" * LONG_BYTES + b" %b HTTP/1.1" % path, allowed=ANYTHING),
    _start("a path of 70 kB", lambda _: b"POST /%b HTTP/1.1" % (b"a" * LONG_BYTES), allowed=ANYTHING),
    _start("NUL in the path", lambda path: b"POST %b\x00 HTTP/1.1" % path),
    _start("a line feed in the path", lambda path: b"POST %b\nX: y HTTP/1.1" % path),
    _start("a blank in the path", lambda path: b"POST %b x HTTP/1.1" % path),
    _start("no path", lambda _: b"POST  HTTP/1.1"),
    _start("a tab for a blank", lambda path: b"POST\t%b\tHTTP/1.1" % path, allowed=ANYTHING),
    _start("a blank before the method", lambda path: b" POST %b HTTP/1.1" % path),
    Attack("the preface of HTTP/2", lambda _: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Attack("a TLS greeting", lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2),
    Attack("bytes that are no HTTP", lambda _: bytes(range(256)) * 16),
    Attack("HTTP/0.9", lambda one: b"GET %b\r\n" % one.path, hang_up=True),
    Attack("100,000 empty lines", lambda _: CRLF * 100_000, hang_up=True),
    Attack("a tunnel", lambda _: b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", allowed=ANYTHING),
)

ATTACKS = {
    "lengths": LENGTHS,
    "transfer encodings": ENCODINGS,
    "chunks": CHUNKS,
    "header lines": HEADERS,
    "hosts": HOSTS,
    "request lines": START_LINES,
}
