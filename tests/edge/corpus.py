"""Raw HTTP requests as bytes, and what a gateway must do with them. A table for any server behind `Edge`.

Every refused request is followed by `SMUGGLED` on the same connection: the server must answer the first with a
4xx (or nothing), close, and never answer the second. Accepted requests are odd but legal: all of them must be
answered, by something behind the edge.

`Case.raw()` puts in a GET path, a POST path and a key, so the same table runs against an echo application and
against the whole gateway. The server must allow the hosts in `HOSTS`.
"""

from dataclasses import dataclass

HOSTS = ["gw.test", "*.sub.test", "127.0.0.1", "[::1]"]

EDGE_CODES = frozenset(
    {
        "duplicate_header",
        "headers_too_large",
        "invalid_expect",
        "invalid_framing",
        "invalid_header",
        "invalid_host",
        "invalid_http",
        "invalid_http_version",
        "invalid_url",
        "request_too_large",
        "unsupported_encoding",
        "upgrade_not_supported",
        "url_too_long",
    }
)
"""`error.code` of the edge's own refusals: an accepted request is answered with none of these."""

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """`answers`: how many responses an accepted case gets; 0 marks a case that must be refused."""

    name: str
    data: bytes
    answers: int = 0

    def raw(self, *, get: bytes = b"/v1/models", post: bytes = b"/v1/chat/completions", key: bytes = b"none") -> bytes:
        data = self.data.replace(b"@GET@", get).replace(b"@POST@", post).replace(b"@KEY@", key)
        return data if self.answers else data + SMUGGLED


def _get(headers: bytes = b"", *, line: bytes = b"GET @GET@ HTTP/1.1", host: bytes = b"Host: gw.test\r\n") -> bytes:
    return line + b"\r\n" + host + b"Authorization: Bearer @KEY@\r\n" + headers + b"\r\n"


def _post(headers: bytes, body: bytes = b"") -> bytes:
    return (
        b"POST @POST@ HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer @KEY@\r\n"
        b"Content-Type: application/json\r\n" + headers + b"\r\n" + body
    )


def _path(path: bytes) -> bytes:
    return _get(line=b"GET " + path + b" HTTP/1.1")


_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_DONE = b"2\r\n{}\r\n0\r\n\r\n"

_REFUSED: dict[str, bytes] = {
    # ── where the message ends ──
    "length and chunked": _post(b"Content-Length: 4\r\n" + _CHUNKED, _DONE),
    "chunked and length": _post(_CHUNKED + b"Content-Length: 4\r\n", _DONE),
    "chunked and length 0": _post(_CHUNKED + b"Content-Length: 0\r\n", _DONE),
    "two lengths": _post(b"Content-Length: 2\r\nContent-Length: 40\r\n", b"{}"),
    "two equal lengths": _post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"{}"),
    "list of lengths": _post(b"Content-Length: 2, 2\r\n", b"{}"),
    "length with plus": _post(b"Content-Length: +2\r\n", b"{}"),
    "length with minus": _post(b"Content-Length: -2\r\n", b"{}"),
    "length in hex": _post(b"Content-Length: 0x2\r\n", b"{}"),
    "length with underscore": _post(b"Content-Length: 1_0\r\n", b"{}        "),
    "length with inner space": _post(b"Content-Length: 1 0\r\n", b"{}        "),
    "length with point": _post(b"Content-Length: 2.0\r\n", b"{}"),
    "length with exponent": _post(b"Content-Length: 2e0\r\n", b"{}"),
    "length empty": _post(b"Content-Length:\r\n", b"{}"),
    "length beyond 64 bits": _post(b"Content-Length: 18446744073709551618\r\n", b"{}"),
    "length above the limit": _post(b"Content-Length: 99999999999\r\n", b"{}"),
    "length in Arabic digits": _post(b"Content-Length: \xd9\xa2\r\n", b"{}"),
    "coding before chunked": _post(b"Transfer-Encoding: gzip, chunked\r\n", _DONE),
    "coding after chunked": _post(b"Transfer-Encoding: chunked, gzip\r\n", _DONE),
    "identity coding": _post(b"Transfer-Encoding: identity\r\n", b""),
    "identity line then chunked line": _post(b"Transfer-Encoding: identity\r\n" + _CHUNKED, _DONE),
    "chunked twice": _post(_CHUNKED + _CHUNKED, _DONE),
    "chunked twice in a list": _post(b"Transfer-Encoding: chunked, chunked\r\n", _DONE),
    "xchunked": _post(b"Transfer-Encoding: xchunked\r\n", _DONE),
    "chunked with parameter": _post(b"Transfer-Encoding: chunked;q=1\r\n", _DONE),
    "chunked quoted": _post(b'Transfer-Encoding: "chunked"\r\n', _DONE),
    "chunked in mixed case": _post(b"Transfer-Encoding: cHuNkEd\r\n", _DONE),
    "chunked after vertical tab": _post(b"Transfer-Encoding: \x0bchunked\r\n", _DONE),
    "chunked after no-break space": _post(b"Transfer-Encoding: \xa0chunked\r\n", _DONE),
    "chunked with space before colon": _post(b"Transfer-Encoding : chunked\r\n", _DONE),
    "chunked in a folded line": _post(b"Transfer-Encoding:\r\n chunked\r\n", _DONE),
    "chunked with underscore": _post(b"Transfer_Encoding: chunked\r\nContent-Length: 2\r\n", b"{}"),
    "length with underscore in name": _post(b"Content_Length: 40\r\nContent-Length: 2\r\n", b"{}"),
    "chunked in HTTP/1.0": _post(_CHUNKED, _DONE).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "chunk size in 0x": _post(_CHUNKED, b"0x2\r\n{}\r\n0\r\n\r\n"),
    "chunk size with plus": _post(_CHUNKED, b"+2\r\n{}\r\n0\r\n\r\n"),
    "chunk size with space": _post(_CHUNKED, b"2 \r\n{}\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": _post(_CHUNKED, b"10000000000000002\r\n{}\r\n0\r\n\r\n"),
    "chunk size empty": _post(_CHUNKED, b"\r\n{}\r\n0\r\n\r\n"),
    "chunk size before bare LF": _post(_CHUNKED, b"2\n{}\r\n0\r\n\r\n"),
    "chunk ends with bare LF": _post(_CHUNKED, b"2\r\n{}\n0\r\n\r\n"),
    "chunk longer than its size": _post(_CHUNKED, b"2\r\n{}x\r\n0\r\n\r\n"),
    "chunk extension with control": _post(_CHUNKED, b"2;a=\x00\r\n{}\r\n0\r\n\r\n"),
    # ── lines and header fields ──
    "bare LF everywhere": b"GET @GET@ HTTP/1.1\nHost: gw.test\n\n",
    "bare LF after one header": _get(b"X-A: b\nX-C: d\r\n"),
    "bare CR in a header": _get(b"X-A: b\rX-C: d\r\n"),
    "NUL in a value": _get(b"X-A: b\x00c\r\n"),
    "control in a value": _get(b"X-A: b\x1bc\r\n"),
    "DEL in a value": _get(b"X-A: b\x7fc\r\n"),
    "NUL in a name": _get(b"X\x00A: b\r\n"),
    "folded header": _get(b"X-A: b\r\n c\r\n"),
    "folded by tab": _get(b"X-A: b\r\n\tc\r\n"),
    "folded host": _get(host=b"Host:\r\n gw.test\r\n"),
    "space before colon": _get(b"X-A : b\r\n"),
    "space in name": _get(b"X A: b\r\n"),
    "space before first header": b"GET @GET@ HTTP/1.1\r\n Host: gw.test\r\n\r\n",
    "no colon": _get(b"X-A\r\n"),
    "empty name": _get(b": b\r\n"),
    "two authorizations": _get(b"Authorization: Bearer other\r\n"),
    "two api keys": _get(b"X-Api-Key: a\r\nx-api-key: b\r\n"),
    "two content types": _post(b"Content-Type: text/plain\r\nContent-Length: 2\r\n", b"{}"),
    "api key with underscore": _get(b"X_Api_Key: a\r\n"),
    "forwarded with underscore": _get(b"X_Forwarded_For: 1.2.3.4\r\n"),
    "forwarded half underscore": _get(b"X-Forwarded_For: 1.2.3.4\r\n"),
    "too many headers": _get(b"".join(b"X-%d: a\r\n" % number for number in range(120))),
    "header of 40 KiB": _get(b"X-A: " + b"a" * 40_960 + b"\r\n"),
    "connection strips authorization": _get(b"Connection: close, authorization\r\n"),
    "connection strips length": _post(b"Connection: keep-alive\r\nConnection: Content-Length\r\nContent-Length: 2\r\n"),
    "connection strips forwarded": _get(b"Connection: x-forwarded-for\r\n"),
    "expect nonsense": _post(b"Expect: 200-ok\r\nContent-Length: 2\r\n", b"{}"),
    "gzip body": _post(b"Content-Encoding: gzip\r\nContent-Length: 2\r\n", b"\x1f\x8b"),
    "identity and gzip body": _post(b"Content-Encoding: identity, gzip\r\nContent-Length: 2\r\n", b"{}"),
    "websocket upgrade": _get(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
    "upgrade to HTTP/2": _get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"),
    "upgrade without connection": _get(b"Upgrade: websocket\r\n"),
    # ── whom it is meant for ──
    "no host": _get(host=b""),
    "no host in HTTP/1.0": b"GET @GET@ HTTP/1.0\r\n\r\n",
    "two hosts": _get(b"Host: other.test\r\n"),
    "two equal hosts": _get(b"Host: gw.test\r\n"),
    "host in a trailer only": _post(_CHUNKED, b"0\r\nHost: gw.test\r\n\r\n").replace(b"Host: gw.test\r\nA", b"A", 1),
    "empty host": _get(host=b"Host:\r\n"),
    "unknown host": _get(host=b"Host: evil.test\r\n"),
    "host with allowed one as prefix": _get(host=b"Host: gw.test.evil.test\r\n"),
    "host of the bare suffix": _get(host=b"Host: sub.test\r\n"),
    "host with path": _get(host=b"Host: gw.test/x?\r\n"),
    "host with user": _get(host=b"Host: gw.test@evil.test\r\n"),
    "host with fragment": _get(host=b"Host: gw.test#\r\n"),
    "host list": _get(host=b"Host: gw.test, evil.test\r\n"),
    "host with space": _get(host=b"Host: gw.test evil.test\r\n"),
    "host with bad port": _get(host=b"Host: gw.test:8a\r\n"),
    "host with huge port": _get(host=b"Host: gw.test:70000\r\n"),
    "host in half brackets": _get(host=b"Host: [::1\r\n"),
    "host not ASCII": _get(host=b"Host: \xd0\xb3w.test\r\n"),
    "absolute form with another host": _get(line=b"GET http://evil.test@GET@ HTTP/1.1"),
    "absolute form with user": _get(line=b"GET http://user@gw.test@GET@ HTTP/1.1"),
    "absolute form with another scheme": _get(line=b"GET ftp://gw.test@GET@ HTTP/1.1"),
    "authority form": b"CONNECT gw.test:443 HTTP/1.1\r\nHost: gw.test\r\n\r\n",
    # ── the URL ──
    "dot segments": _path(b"/v1/../admin/keys"),
    "dot segment at the end": _path(b"/v1/models/.."),
    "single dot segment": _path(b"/v1/./models"),
    "encoded dot segments": _path(b"/v1/%2e%2e/admin/keys"),
    "half encoded dot segments": _path(b"/v1/.%2E/admin/keys"),
    "encoded slash": _path(b"/v1%2Fmodels"),
    "encoded slash in lower case": _path(b"/admin%2fkeys"),
    "encoded slash leads out of models": _path(b"/v1/models/..%2f..%2fadmin%2fkeys"),
    "encoded empty segment under models": _path(b"/v1/models/%2Fadmin"),
    "encoded twice": _path(b"/v1/models/a%252Fb"),
    "encoded backslash": _path(b"/v1/models/a%5Cb"),
    "encoded NUL": _path(b"/v1/models/a%00b"),
    "encoded line end": _path(b"/v1/models/a%0d%0ab"),
    "broken percent": _path(b"/v1/models/a%2"),
    "percent not UTF-8": _path(b"/v1/models/%ff"),
    "overlong encoded slash": _path(b"/v1/models/%c0%af"),
    "double slash": _path(b"//evil.test/v1/models"),
    "double slash inside": _path(b"/v1//models"),
    "backslash": _path(b"/v1\\models"),
    "parameters in an admin path": _path(b"/admin/keys;jsessionid=1"),
    "encoded parameters in an admin path": _path(b"/admin/keys%3bx"),
    "fragment": _path(b"@GET@#x"),
    "path not ASCII": _path(b"/v1/\xd0\xbc"),
    "query not ASCII": _path(b"@GET@?a=\xd0\xbc"),
    "control in path": _path(b"/v1/\x01models"),
    "space in path": _path(b"/v1/models a"),
    "no leading slash": _path(b"v1/models"),
    "asterisk with GET": _path(b"*"),
    "URL of 9 KiB": _path(b"@GET@?a=" + b"a" * 9_000),
    # ── the request line ──
    "HTTP/0.9": b"GET @GET@\r\n\r\n",
    "HTTP/0.9 spelled out": _get(line=b"GET @GET@ HTTP/0.9"),
    "HTTP/1.2": _get(line=b"GET @GET@ HTTP/1.2"),
    "HTTP/1.10": _get(line=b"GET @GET@ HTTP/1.10"),
    "HTTP/2.0": _get(line=b"GET @GET@ HTTP/2.0"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version in lower case": _get(line=b"GET @GET@ http/1.1"),
    "space before the method": _get(line=b" GET @GET@ HTTP/1.1"),
    "tab after the method": _get(line=b"GET\t@GET@ HTTP/1.1"),
    "method in lower case": _get(line=b"get @GET@ HTTP/1.1"),
    "unknown method": _get(line=b"FROB @GET@ HTTP/1.1"),
    "TRACE": _get(line=b"TRACE @GET@ HTTP/1.1"),
    "WebDAV method": _get(line=b"PROPFIND @GET@ HTTP/1.1"),
    "TLS hello on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "binary noise": bytes(range(256)) + b"\r\n\r\n",
}

_ACCEPTED: dict[str, tuple[bytes, int]] = {
    "plain GET": (_get(), 1),
    "headers in odd case": (_get(b"aCCept: */*\r\nX-Custom_Name: a\r\n"), 1),
    "spaces and tabs around a value": (_get(b"X-A: \t b \t \r\n", host=b"Host:   gw.test \t\r\n"), 1),
    "no space after the colon": (_get(host=b"Host:gw.test\r\n"), 1),
    "host with port": (_get(host=b"Host: gw.test:8080\r\n"), 1),
    "host in capitals": (_get(host=b"Host: GW.TEST\r\n"), 1),
    "host below a wildcard": (_get(host=b"Host: a.b.sub.test\r\n"), 1),
    "IPv6 host": (_get(host=b"Host: [::1]:8080\r\n"), 1),
    "host not first": (_get(b"Host: gw.test\r\n", host=b""), 1),
    "empty lines before the request": (b"\r\n\r\n" + _get(), 1),
    "value in UTF-8": (_get(b"X-Title: \xd0\xbc\xd0\xb8\xd1\x80\r\n"), 1),
    "value with obsolete text": (_get(b"X-Title: caf\xe9\r\n"), 1),
    "several forwarded lines": (_get(b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n"), 1),
    "connection with extra options": (_get(b"Connection: keep-alive, TE\r\nTE: trailers\r\n"), 1),
    "absolute form with the same host": (_get(line=b"GET http://gw.test@GET@ HTTP/1.1"), 1),
    "absolute form with the default port": (_get(line=b"GET http://GW.test:80@GET@ HTTP/1.1"), 1),
    "HEAD": (_get(line=b"HEAD @GET@ HTTP/1.1"), 1),
    "OPTIONS": (_get(line=b"OPTIONS @GET@ HTTP/1.1"), 1),
    "OPTIONS of the server": (_get(line=b"OPTIONS * HTTP/1.1"), 1),
    "HTTP/1.0 with host": (_get(line=b"GET @GET@ HTTP/1.0"), 1),
    "query with odd characters": (_path(b"@GET@?a=%2F..%5C&b=//;'c'&d[]=1"), 1),
    "model id plain": (_path(b"/v1/models/tbank/t-pro-it-2.0"), 1),
    "model id encoded": (_path(b"/v1/models/tbank%2Ft-pro-it-2.0"), 1),
    "model id with colon and plus": (_path(b"/v1/models/yandex/gpt-lite:rc+slow@eu"), 1),
    "model id in Cyrillic": (_path(b"/v1/models/%D0%B0/%D0%B1"), 1),
    "POST with length": (_post(b"Content-Length: 2\r\n", b"{}"), 1),
    "POST with length and spaces": (_post(b"Content-Length: \t2 \r\n", b"{}"), 1),
    "POST with zeros before the length": (_post(b"Content-Length: 002\r\n", b"{}"), 1),
    "POST without a body": (_post(b""), 1),
    "POST chunked": (_post(_CHUNKED, _DONE), 1),
    "POST in chunks of one": (_post(_CHUNKED, b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), 1),
    "chunk size in capitals with zeros": (_post(_CHUNKED, b"00A\r\n{        }\r\n0\r\n\r\n"), 1),
    "chunk extension": (_post(_CHUNKED, b'2;name="value"\r\n{}\r\n0\r\n\r\n'), 1),
    "trailer field": (_post(_CHUNKED + b"Trailer: X-Sum\r\n", b"2\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n"), 1),
    "authorization in a trailer is no second one": (
        _post(_CHUNKED, b"2\r\n{}\r\n0\r\nAuthorization: Bearer other\r\n\r\n"),
        1,
    ),
    "expect 100-continue": (_post(b"Expect: 100-Continue\r\nContent-Length: 2\r\n", b"{}"), 1),
    "identity encoding": (_post(b"Content-Encoding: identity\r\nContent-Length: 2\r\n", b"{}"), 1),
    "GET with a body": (_get(b"Content-Length: 2\r\n") + b"{}", 1),
    "two pipelined GETs": (_get() + _get(), 2),
    "POST and GET pipelined": (_post(b"Content-Length: 2\r\n", b"{}") + _get(), 2),
    "chunked POST and GET pipelined": (_post(_CHUNKED, _DONE) + _get(), 2),
    "request after close is not read": (_get(b"Connection: close\r\n") + _get(), 1),
}

REFUSED = [Case(name, data) for name, data in _REFUSED.items()]
ACCEPTED = [Case(name, data, answers) for name, (data, answers) in _ACCEPTED.items()]
