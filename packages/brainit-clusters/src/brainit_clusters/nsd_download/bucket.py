"""Anonymous reads of a public S3 bucket: listings, byte ranges, and what to do when they break."""

from __future__ import annotations

import ipaddress
import random
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPException, HTTPResponse
from threading import Event
from typing import TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from brainit_clusters.__about__ import __version__
from brainit_clusters.nsd_download.listing import RemoteFile, parse_page

NSD_URL = "https://natural-scenes-dataset.s3.amazonaws.com"
_CHUNK = 2**20
_PROGRESS = 4096  # bytes; a connection that brought fewer counts as failed
_SLOWEST = 1024  # bytes a second
_FAILURES = 6
_LONGEST_PAUSE = 60.0
_PAGE_BYTES = 8 * 2**20  # a page has at most 1000 keys of at most 1024 bytes
_PAGES = 1000
_T = TypeVar("_T")
_PASSING = (408, 429, 500, 502, 503, 504)


class TransferError(OSError):
    """The bucket did not answer as it should.

    Attributes:
        passing: Whether asking again may help.
    """

    def __init__(self, message: str, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


class Bucket:
    """A public bucket.

    Broken connections, answers that do not fit the question, 408, 429 and 5xx are tried again, and
    a range goes on where it broke off: work ends only when six connections in a row brought less
    than 4 KiB each. Redirects are never followed.

    Attributes:
        stop: Once set, whatever is under way raises `InterruptedError` at its next chunk.
    """

    def __init__(self, url: str = NSD_URL, timeout: float = 30.0, pause: float = 1.0) -> None:
        """Open nothing yet.

        Args:
            url: https, or http to a loopback address.
            timeout: Seconds without a byte, or below 1 KiB/s, after which a connection is cut.
            pause: Seconds before the second attempt; doubled for each further one, at most 60.

        Raises:
            ValueError: if `url` is anything else.
        """
        parts = urlsplit(url)
        local = _is_loopback(parts.hostname)
        if not (parts.scheme == "https" or (parts.scheme == "http" and local)):
            raise ValueError(f"{url}: expected https, or http to a loopback address")
        if not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ValueError(f"{url}: expected scheme, host, port and path alone")
        self.stop = Event()
        self._url, self._timeout, self._pause = url.rstrip("/"), timeout, pause
        secure = parts.scheme == "https"
        context = ssl.create_default_context() if secure else None
        # Without urllib's handlers for redirects, files and errors, an answer is just an answer.
        self._opener = OpenerDirector()
        self._opener.add_handler(ProxyHandler({} if local else None))
        self._opener.add_handler(HTTPSHandler(context=context) if secure else HTTPHandler())
        self._opener.addheaders = [("User-Agent", f"brainit-clusters/{__version__}")]

    def files(self, prefix: str) -> list[RemoteFile]:
        """All files whose key starts with `prefix`.

        Raises:
            TransferError: if the bucket cannot be asked.
            ValueError: if the listing is no listing, or lists what is no plain path.
        """
        files: list[RemoteFile] = []
        token = None
        for _ in range(_PAGES):
            body = self._retrying(partial(self._page, prefix, token))
            page, token = parse_page(body, prefix)
            files += page
            if token is None:
                return files
        raise ValueError(f"the listing of {prefix!r} does not end")

    def stream(self, file: RemoteFile, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file, of exactly the version that was listed.

        Yields:
            At most 1 MiB at a time, each byte once, whatever happens to connections.

        Raises:
            TransferError: if the file has changed, is not to be had, or no byte comes any more.
            InterruptedError: if `self.stop` is set.
        """
        failures = 0
        while start < stop:
            before = start
            try:
                for chunk in self._stream_once(file, start, stop):
                    start += len(chunk)
                    yield chunk
            except TransferError as error:
                failures = 1 if start - before >= _PROGRESS else failures + 1
                self._wait(error, failures)

    def part_size(self, file: RemoteFile) -> int | None:
        """Size of the first of the parts in which a file was uploaded; None: the bucket won't say.

        Raises:
            TransferError: if the bucket cannot be asked.
        """
        request = self._request(file.key, {"partNumber": "1"}, {"If-Match": f'"{file.etag}"'})
        request.method = "HEAD"
        try:
            status, size = self._retrying(lambda: self._head(request))
        except TransferError as error:
            if error.passing:
                raise
            return None
        return int(size) if status == 206 and size.isdigit() and int(size) > 0 else None

    def _head(self, request: Request) -> tuple[int, str]:
        with self._open(request) as answer:
            return answer.status, answer.headers.get("Content-Length", "")

    def _page(self, prefix: str, token: str | None) -> bytes:
        query = {"list-type": "2", "prefix": prefix}
        request = self._request("", query | ({"continuation-token": token} if token else {}), {})
        with self._open(request) as answer:
            length = answer.length
            body = b"".join(self._chunks(answer, _PAGE_BYTES))
        if answer.status != 200 or length not in (None, len(body)):
            raise TransferError(f"the listing of {prefix!r} was cut", passing=True)
        return body

    def _stream_once(self, file: RemoteFile, start: int, stop: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-{stop - 1}", "If-Match": f'"{file.etag}"'}
        with self._open(self._request(file.key, {}, headers)) as answer:
            etag = answer.headers.get("ETag", "").strip('"')
            if etag != file.etag:
                text = f"{file.key}: has changed in the bucket (ETag {etag!r}, was {file.etag!r})"
                raise TransferError(text, passing=not etag)
            whole = answer.status == 200  # allowed by HTTP: the range was ignored
            expected = file.size if whole else stop - start
            place = answer.headers.get("Content-Range")
            if not whole and place != f"bytes {start}-{stop - 1}/{file.size}":
                text = f"{file.key}: asked for bytes {start}-{stop - 1}, was offered {place!r}"
                raise TransferError(text, passing=True)
            if answer.length not in (None, expected):
                text = f"{file.key}: {answer.length} bytes were offered, expected {expected}"
                raise TransferError(text, passing=True)
            skip = start if whole else 0
            left = stop - start
            for chunk in self._chunks(answer, skip + left):
                wanted = chunk[skip:]
                skip -= len(chunk) - len(wanted)
                left -= len(wanted)
                if wanted:
                    yield wanted
            if left:
                raise TransferError(f"{file.key}: the connection broke off", passing=True)

    def _request(self, key: str, query: dict[str, str], headers: dict[str, str]) -> Request:
        url = f"{self._url}/{quote(key)}" + (f"?{urlencode(query)}" if query else "")
        return Request(url, headers=headers | {"Accept-Encoding": "identity"})

    def _open(self, request: Request) -> closing[HTTPResponse]:
        if self.stop.is_set():
            raise InterruptedError("stopped")
        url = request.full_url
        try:
            answer = cast(HTTPResponse, self._opener.open(request, timeout=self._timeout))
        except (OSError, HTTPException) as error:
            untrusted = isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError)
            raise TransferError(f"{url}: {_reason(error)}", passing=not untrusted) from error
        if answer.status in (200, 206):
            if (coding := answer.headers.get("Content-Encoding", "identity")) == "identity":
                return closing(answer)
            text, passing = f"was answered in Content-Encoding {coding!r}", True
        else:
            text = f"{answer.status} {answer.reason}".strip()
            passing = answer.status in _PASSING
            if 300 <= answer.status < 400:
                text = f"a redirect to {answer.headers.get('Location')!r}, which is not followed"
            elif answer.status == 412:
                text = "has changed in the bucket since it was listed"
        answer.close()
        raise TransferError(f"{url}: {text}", passing)

    def _chunks(self, answer: HTTPResponse, most: int) -> Iterator[bytes]:
        """At most `most` bytes of a body, cut off where they come slower than 1 KiB/s."""
        since, gained = time.monotonic(), 0
        while most > 0:
            try:
                chunk = answer.read1(min(most, _CHUNK))
            except (OSError, HTTPException, ValueError) as error:
                text = f"{answer.geturl()}: {_reason(error)}"
                raise TransferError(text, passing=True) from error
            if not chunk:
                return
            if self.stop.is_set():
                raise InterruptedError("stopped")
            most -= len(chunk)
            gained += len(chunk)
            yield chunk
            if (spent := time.monotonic() - since) > self._timeout:
                if gained < _SLOWEST * spent:
                    raise TransferError(f"{answer.geturl()}: less than 1 KiB/s", passing=True)
                since, gained = time.monotonic(), 0

    def _retrying(self, action: Callable[[], _T]) -> _T:
        failures = 0
        while True:
            try:
                return action()
            except TransferError as error:
                failures += 1
                self._wait(error, failures)

    def _wait(self, error: TransferError, failures: int) -> None:
        """Pause before another attempt, or raise `error` if there should be none."""
        if not error.passing:
            raise error
        if failures >= _FAILURES:
            raise TransferError(f"{error} ({failures} times in a row)", passing=True) from error
        # Up to half of it by chance: connections that broke together do not come back together.
        pause = min(self._pause * 2 ** (failures - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1)
        if self.stop.wait(pause):
            raise InterruptedError("stopped")


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__
