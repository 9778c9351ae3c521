"""One file to download: its bytes, and what should and should not be left of it on disk."""

from __future__ import annotations

import json

import numpy as np

from brainit_clusters.nsd_download.fetch import fetch

KEY = "nsddata/some/file.bin"
SIZE = 40_000
CONTENT = np.random.default_rng(0).bytes(SIZE)


def have(target, bucket, told=None):
    return fetch(target, bucket, told.append if told is not None else lambda n_bytes: None)


def partly(target, n_bytes, content=CONTENT):
    """As a process leaves it that was killed after so many bytes."""
    target.part.parent.mkdir(parents=True, exist_ok=True)
    target.part.write_bytes(content[:n_bytes])
    target.note.write_text(json.dumps(target.facts | {"check": None, "mtime_ns": None}))


def whole(target):
    """The file is there, with nothing beside it but its note."""
    assert {path.name for path in target.path.parent.iterdir()} == {target.path.name, ".download"}
    assert list(target.note.parent.iterdir()) == [target.note]
    assert target.path.read_bytes() == CONTENT
    return True
