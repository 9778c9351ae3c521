"""One page of an S3 bucket's listing (ListObjectsV2), read with suspicion."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

_ETAG = re.compile(r"[0-9a-f]{32}(-[0-9]{1,5})?")


@dataclass(frozen=True)
class RemoteFile:
    """A file as the bucket lists it.

    Attributes:
        key: Its path below the bucket.
        size: In bytes.
        etag: The bucket's mark of its bytes, without quotes: their MD5, or, for a file that was
            uploaded in N parts, the MD5 of the parts' MD5s and "-N".

    Raises:
        ValueError: if the key is no plain relative path, or the ETag is neither of the two.
    """

    key: str
    size: int
    etag: str

    def __post_init__(self) -> None:
        parts = self.key.split("/")
        plain = self.key.isprintable() and "\\" not in self.key
        if not plain or not {"", ".", ".."}.isdisjoint(parts):
            raise ValueError(f"the bucket lists {self.key!r}, which is no plain relative path")
        if not _ETAG.fullmatch(self.etag):
            raise ValueError(f"the bucket lists {self.key} with ETag {self.etag!r}")


def parse_page(body: bytes, prefix: str) -> tuple[list[RemoteFile], str | None]:
    """Read a page of the listing of `prefix`; folder marks (keys that end in "/") are left out.

    Returns:
        The files, and the token of the next page or None.

    Raises:
        ValueError: if it is no such page, declares a document type or entities, or lists anything
            outside `prefix`.
    """
    try:
        text = body.decode("utf-8")
        if "<!" in text:  # a listing has no declarations; without them no entity can grow
            raise ValueError("it holds a declaration")
        page = ElementTree.fromstring(text)
        files = [_remote_file(entry, prefix) for entry in page.iterfind("{*}Contents")]
        more = page.findtext("{*}IsTruncated") == "true"
        token = page.findtext("{*}NextContinuationToken")
    except (ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"the listing of {prefix!r} cannot be read ({error})") from error
    if page.tag.rpartition("}")[2] != "ListBucketResult" or (more and not token):
        raise ValueError(f"the listing of {prefix!r} is no S3 listing")
    return [file for file in files if file is not None], token if more else None


def _remote_file(entry: ElementTree.Element, prefix: str) -> RemoteFile | None:
    key, size, etag = (entry.findtext(f"{{*}}{name}") or "" for name in ("Key", "Size", "ETag"))
    if not key.startswith(prefix):
        raise ValueError(f"it lists {key!r}")
    if key.endswith("/"):
        return None
    if not (size.isascii() and size.isdigit() and len(size) < 19):
        raise ValueError(f"it lists {key} with size {size!r}")
    return RemoteFile(key, int(size), etag.strip('"'))
