"""A public S3 bucket on loopback: listings in pages, ranges, ETags; it misbehaves when told to.

A fault is a function that spoils one reply. Faults wait in a queue; each request takes the next.
"""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Reply:
    """What goes over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    send: int | None = None  # so many bytes of the body, then the connection is closed
    gate: threading.Event | None = None  # after them, wait for it and send the rest
    drip: float = 0  # seconds between single bytes
    raw: bytes | None = None  # this instead of all


Fault = Callable[[Reply], None]


@dataclass
class Bucket:
    """What the server has, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    part_sizes: dict[str, int] = field(default_factory=dict)
    names_parts: bool = True
    page_size: int = 1000
    faults: deque[Fault] = field(default_factory=deque)
    list_faults: deque[Fault] = field(default_factory=deque)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def etag(self, key: str) -> str:
        content, size = self.files[key], self.part_sizes.get(key)
        if size is None:
            return hashlib.md5(content).hexdigest()
        parts = [content[i : i + size] for i in range(0, len(content), size)]
        digests = b"".join(hashlib.md5(part).digest() for part in parts)
        return f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"

    @property
    def fetched(self) -> list[str]:
        """Keys of the requests for bytes."""
        return [key for method, key, _ in self.requests if method == "GET" and key]


def answer(bucket: Bucket, method: str, target: str, headers: dict[str, str]) -> Reply:
    """What S3 would say."""
    parts = urlsplit(target)
    key, query = unquote(parts.path).lstrip("/"), parse_qs(parts.query)
    bucket.requests.append((method, key, headers))
    if "list-type" in query:
        reply = _listing(bucket, query["prefix"][0], int(query.get("continuation-token", "0")[0]))
        return _spoiled(reply, bucket.list_faults)
    if key not in bucket.files:
        return _spoiled(Reply(404, {}, b"<Error><Code>NoSuchKey</Code></Error>"), bucket.faults)
    content, etag = bucket.files[key], f'"{bucket.etag(key)}"'
    if headers.get("If-Match", etag) != etag:
        return Reply(412, {}, b"")
    if "partNumber" in query:
        size = bucket.part_sizes.get(key, len(content))
        return Reply(206 if bucket.names_parts else 200, {"ETag": etag}, content[:size])
    start, stop = 0, len(content)
    if "Range" in headers:
        first, last = headers["Range"].removeprefix("bytes=").split("-")
        start, stop = int(first), min(int(last) + 1, len(content))
    place = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
    return _spoiled(Reply(206, {"ETag": etag} | place, content[start:stop]), bucket.faults)


def _spoiled(reply: Reply, faults: deque[Fault]) -> Reply:
    if faults:
        faults.popleft()(reply)
    return reply


def _listing(bucket: Bucket, prefix: str, start: int) -> Reply:
    keys = sorted(key for key in bucket.files if key.startswith(prefix))
    stop = start + bucket.page_size
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><ETag>&quot;{bucket.etag(key)}&quot;</ETag>"
        f"<Size>{len(bucket.files[key])}</Size></Contents>"
        for key in keys[start:stop]
    )
    more = stop < len(keys)
    token = f"<NextContinuationToken>{stop}</NextContinuationToken>" if more else ""
    return Reply(200, {}, page(f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"))


def page(inside: str, before: str = "") -> bytes:
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    text = f'<ListBucketResult xmlns="{space}">{inside}</ListBucketResult>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{before}{text}'.encode()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        reply = answer(self.server.bucket, self.command, self.path, dict(self.headers))
        with suppress(OSError):  # the client may have left
            self._write(reply)
        self.close_connection = True

    do_HEAD = do_GET

    def _write(self, reply: Reply) -> None:
        if reply.raw is not None:
            self.wfile.write(reply.raw)
            return
        self.send_response(reply.status)
        headers = {"Content-Length": str(len(reply.body))} | reply.headers
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if reply.drip:
            for i in range(len(reply.body)):
                self.wfile.write(reply.body[i : i + 1])
                time.sleep(reply.drip)
            return
        self.wfile.write(reply.body[: reply.send])
        if reply.gate:
            self.wfile.flush()
            reply.gate.wait(20)
            self.wfile.write(reply.body[reply.send :])

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    bucket: Bucket

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that left in the handshake


@contextmanager
def serve(context: ssl.SSLContext | None = None) -> Iterator[Bucket]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.bucket = Bucket(url=f"http://127.0.0.1:{server.server_port}")
    if context:
        server.bucket.url = f"https://localhost:{server.server_port}"
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# Faults


def cut(n_bytes: int) -> Fault:
    """The connection breaks after so many bytes of the body."""
    return lambda reply: setattr(reply, "send", n_bytes)


def hold(n_bytes: int, gate: threading.Event) -> Fault:
    """After so many bytes nothing comes until the gate opens."""

    def fault(reply: Reply) -> None:
        reply.send, reply.gate = n_bytes, gate

    return fault


def drip(seconds: float) -> Fault:
    return lambda reply: setattr(reply, "drip", seconds)


def raw(data: bytes) -> Fault:
    return lambda reply: setattr(reply, "raw", data)


def status(code: int, **headers: str) -> Fault:
    def fault(reply: Reply) -> None:
        reply.status, reply.body = code, b"<Error/>"
        reply.headers = headers

    return fault


def header(name: str, value: str) -> Fault:
    """Another value; an empty one: without it."""
    return lambda reply: reply.headers.update({name: value})


def body(change: Callable[[bytes], bytes]) -> Fault:
    return lambda reply: setattr(reply, "body", change(reply.body))


def flip(reply: Reply) -> None:
    """One bit is wrong."""
    reply.body = bytes([reply.body[0] ^ 1]) + reply.body[1:]


def ignore_range(content: bytes) -> Fault:
    def fault(reply: Reply) -> None:
        reply.status, reply.body = 200, content
        reply.headers["Content-Range"] = ""

    return fault


def chunked(data: bytes, whole: bool) -> Fault:
    """A body in HTTP chunks, without a length; broken off, or whole."""

    def fault(reply: Reply) -> None:
        lines = [f"HTTP/1.1 {reply.status} Partial Content"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()
        chunk = f"{len(data):x}\r\n".encode() + data + b"\r\n"
        reply.raw = head + chunk + (b"0\r\n\r\n" if whole else b"ff\r\nbroken")

    return fault
