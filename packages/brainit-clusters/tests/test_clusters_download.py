"""One file from a bucket that misbehaves: whole and verified, or not there."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import resource
import signal
import threading
import time
from functools import partial

import brainit_clusters_s3_server as s3s
import numpy as np
import pytest

from brainit_clusters.nsd_download import Bucket, Target, TransferError, fetch_all, found
from brainit_clusters.nsd_download.etag import check, etag_of_parts
from brainit_clusters.nsd_download.fetch import fetch

KEY = "nsddata/some/file.bin"
SIZE = 40_000
CONTENT = np.random.default_rng(0).bytes(SIZE)
MIB = 2**20


@pytest.fixture
def bucket(s3):
    s3.files[KEY] = CONTENT
    return Bucket(s3.url, timeout=20, pause=0.001)  # a busy machine is no fault


@pytest.fixture
def hasty(s3):
    return Bucket(s3.url, timeout=0.3, pause=0.001)


@pytest.fixture
def target(s3, bucket, tmp_path):
    return Target.whole(bucket.files(KEY)[0], tmp_path)


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


# A fault passes, and the file is whole.


@pytest.mark.parametrize("n_bytes", [0, 1, 4095, *range(4096, SIZE, 4096), SIZE - 1])
def test_goes_on_where_the_connection_broke(s3, bucket, target, n_bytes):
    s3.faults.append(s3s.cut(n_bytes))
    told = []
    assert have(target, bucket, told) == "md5"
    assert whole(target)
    assert sum(told) == SIZE
    assert s3.requests[-1][2]["Range"] == f"bytes={n_bytes}-{SIZE - 1}"  # nothing came twice


def test_more_breaks_than_patience_are_fine_while_bytes_come(s3, bucket, target):
    s3.faults.extend([s3s.cut(4096)] * (SIZE // 4096))
    assert have(target, bucket) == "md5"
    assert whole(target)


PASSING = {
    "short, with its own length": s3s.body(lambda body: body[:100]),
    "long, with its own length": s3s.body(lambda body: body + b"x"),
    "no byte": s3s.body(lambda body: b""),
    "no byte, right length": s3s.cut(0),
    "no length, cut": lambda reply: (
        reply.headers.update({"Content-Length": ""}) or s3s.cut(9)(reply)
    ),
    "no range named": s3s.header("Content-Range", ""),
    "another range": s3s.header("Content-Range", f"bytes 5000-{SIZE - 1}/{SIZE}"),
    "a range from 0": s3s.header("Content-Range", f"bytes 0-{SIZE - 1001}/{SIZE}"),
    "another total": s3s.header("Content-Range", f"bytes 1000-{SIZE - 1}/{SIZE + 1}"),
    "no range at all": s3s.header("Content-Range", "chunky"),
    "no ETag": s3s.header("ETag", ""),
    "gzip": s3s.header("Content-Encoding", "gzip"),
    "br": s3s.header("Content-Encoding", "br"),
    "408": s3s.status(408),
    "429": s3s.status(429),
    "500": s3s.status(500),
    "502": s3s.status(502),
    "503": s3s.status(503),
    "504": s3s.status(504),
    "silence": s3s.raw(b""),
    "no HTTP": s3s.raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "half a header": s3s.raw(b"HTTP/1.1 206 Partial Content\r\nContent-Len"),
    "a line without end": s3s.raw(b"HTTP/1.1 206 " + b"x" * 100_000),
    "wrong bytes": s3s.flip,
    "chunked, cut": s3s.chunked(CONTENT[1000:3000], whole=False),
    "chunked, short": s3s.chunked(CONTENT[1000:3000], whole=True),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_costs_nothing_but_time(s3, bucket, target, name):
    partly(target, 1000)
    s3.faults.append(PASSING[name])
    assert have(target, bucket) == "md5"
    assert whole(target)
    assert len(s3.fetched) > 1


@pytest.mark.parametrize("fault", [s3s.hold(10_000, threading.Event()), s3s.drip(0.05)])
def test_a_connection_that_brings_nothing_is_cut(s3, hasty, target, fault):
    s3.faults.append(fault)
    assert have(target, hasty) == "md5"
    assert whole(target)
    assert len(s3.fetched) > 1


@pytest.mark.parametrize("start", [0, 1, 30_000])
@pytest.mark.parametrize("cut", [None, 100, 35_000])
def test_a_server_without_ranges_is_skipped_through(s3, bucket, target, start, cut):
    def fault(reply):
        s3s.ignore_range(CONTENT)(reply)
        reply.send = cut

    partly(target, start)
    s3.faults.append(fault)
    assert have(target, bucket) == "md5"
    assert whole(target)
    assert len(s3.fetched) == (1 if cut is None else 2)


@pytest.mark.parametrize(
    "fault",
    [s3s.chunked(CONTENT, whole=True), s3s.header("Content-Length", "many")],
)
def test_an_odd_way_to_send_the_right_bytes(s3, bucket, target, fault):
    s3.faults.append(fault)
    assert have(target, bucket) == "md5"
    assert whole(target)
    assert s3.fetched == [KEY]


def test_an_empty_file(s3, bucket, tmp_path):
    s3.files["empty"] = b""
    target = Target.whole(bucket.files("empty")[0], tmp_path)
    assert have(target, bucket) == "md5"
    assert target.path.read_bytes() == b""


# What is not the file never gets its name.

FINAL = {
    "403": (s3s.status(403), "403 Forbidden"),
    "404": (s3s.status(404), "404 Not Found"),
    "a file": (
        s3s.status(302, Location="file:///etc/passwd"),
        "'file:///etc/passwd', which is not",
    ),
    "a host": (s3s.status(301, Location="https://example.org/x"), "example.org"),
    "http": (s3s.status(307, Location="http://169.254.169.254/"), "169.254"),
    "itself": (s3s.status(308, Location=f"/{KEY}"), "redirect"),
    "another ETag": (s3s.header("ETag", '"0123"'), "has changed in the bucket"),
}


@pytest.mark.parametrize("name", FINAL)
def test_a_final_answer_is_said_once_and_the_next_call_goes_on(s3, bucket, target, name):
    fault, said = FINAL[name]
    partly(target, 1000)
    s3.faults.append(fault)
    with pytest.raises(TransferError, match=said):
        have(target, bucket)
    assert not target.path.exists()
    assert len(s3.fetched) == 1
    assert have(target, bucket) == "md5"
    assert whole(target)
    assert s3.requests[-1][2]["Range"] == f"bytes=1000-{SIZE - 1}"


@pytest.mark.parametrize("fault", [s3s.status(503), s3s.cut(100), s3s.drip(0.05)])
def test_patience_ends(s3, bucket, hasty, target, fault):
    s3.faults.extend([fault] * 7)
    with pytest.raises(TransferError, match=r"6 times in a row"):
        have(target, hasty)
    assert not target.path.exists()
    assert len(s3.fetched) == 6
    s3.faults.clear()
    assert have(target, bucket) == "md5"
    assert whole(target)


def test_nobody_listens(tmp_path, target):
    with pytest.raises(TransferError, match="refused"):
        have(target, Bucket("http://127.0.0.1:9", pause=0.001))


def test_a_changed_file_is_not_spliced(s3, bucket, target, tmp_path):
    partly(target, 1000)
    s3.files[KEY] = CONTENT[::-1]
    with pytest.raises(TransferError, match="changed in the bucket since it was listed"):
        have(target, bucket)
    changed = Target.whole(bucket.files(KEY)[0], tmp_path)
    assert found(changed) == ("absent", 0)
    assert have(changed, bucket) == "md5"
    assert changed.path.read_bytes() == CONTENT[::-1]


def test_bytes_that_are_always_wrong(s3, bucket, target):
    s3.faults.extend([s3s.flip] * 2)
    told = []
    with pytest.raises(ValueError, match="not those of its ETag"):
        have(target, bucket, told)
    assert not target.path.exists()
    assert not target.part.exists()
    assert sum(told) == 0
    assert have(target, bucket) == "md5"


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT + b"longer", CONTENT[:-1] + b"?"])
def test_a_part_of_something_else_is_fetched_anew(s3, bucket, target, content):
    partly(target, len(content), content)
    assert have(target, bucket) == "md5"
    assert whole(target)


@pytest.mark.parametrize("note", ["", "{", "[]", "null", "{}", '{"etag": 1}'])
def test_a_part_without_a_proper_note_is_fetched_anew(s3, bucket, target, note):
    partly(target, 1000, b"?" * 1000)
    target.note.write_text(note)
    assert have(target, bucket) == "md5"
    assert whole(target)
    assert s3.requests[-1][2]["Range"] == f"bytes=0-{SIZE - 1}"


# What is there already.


def test_a_verified_file_is_not_asked_for(s3, bucket, target):
    have(target, bucket)
    s3.requests.clear()
    assert found(target) == ("md5", SIZE)
    assert have(target, bucket) == "md5"
    assert s3.requests == []


def test_another_tools_file_is_checked_not_fetched(s3, bucket, target):
    target.path.parent.mkdir(parents=True)
    target.path.write_bytes(CONTENT)
    assert found(target) == ("unchecked", SIZE)
    assert have(target, bucket) == "md5"
    assert found(target) == ("md5", SIZE)
    assert s3.fetched == []


@pytest.mark.parametrize("content", [b"mine", CONTENT[::-1]])
def test_a_file_of_ones_own_is_never_replaced(s3, bucket, target, content):
    target.path.parent.mkdir(parents=True)
    target.path.write_bytes(content)
    with pytest.raises(ValueError, match="remove it to fetch that"):
        have(target, bucket)
    assert target.path.read_bytes() == content


def test_a_file_that_was_written_since_is_checked_again(bucket, target):
    have(target, bucket)
    os.utime(target.path, ns=(0, 0))
    assert found(target) == ("unchecked", SIZE)
    target.path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(ValueError, match="remove it"):
        have(target, bucket)


# ETags of uploads in parts.


@pytest.mark.parametrize("part_mib", [5, 8, 16])
def test_parts_of_whole_mib_need_no_question(s3, bucket, tmp_path, part_mib):
    s3.files["big"] = CONTENT * 270  # 10.3 MiB
    s3.part_sizes["big"] = part_mib * MIB
    target = Target.whole(bucket.files("big")[0], tmp_path)
    assert have(target, bucket) == "parts"
    assert all(method == "GET" for method, _, _ in s3.requests)


def in_parts(s3, bucket, root, size=7777):
    s3.part_sizes[KEY] = size
    return Target.whole(bucket.files(KEY)[0], root)


def test_other_parts_are_asked_for(s3, bucket, tmp_path):
    target = in_parts(s3, bucket, tmp_path)
    assert have(target, bucket) == "parts"
    assert s3.requests[-1][0] == "HEAD"


def test_parts_that_nobody_names_leave_the_size(s3, bucket, tmp_path):
    target = in_parts(s3, bucket, tmp_path)
    s3.names_parts = False
    assert have(target, bucket) == "size"
    assert found(target) == ("size", SIZE)


@pytest.mark.parametrize("size", [7777, 8 * MIB])
def test_wrong_bytes_in_parts(s3, bucket, tmp_path, size):
    target = in_parts(s3, bucket, tmp_path, size)
    s3.faults.extend([s3s.flip] * 2)
    with pytest.raises(ValueError, match="not those of its ETag"):
        have(target, bucket)
    assert not target.path.exists()


def test_part_sizes_agree_with_s3s_rule(s3, tmp_path):
    s3.files[KEY] = CONTENT
    (tmp_path / "file").write_bytes(CONTENT)
    for size in (99, 999, SIZE - 1, SIZE, SIZE + 1):
        s3.part_sizes[KEY] = size
        assert etag_of_parts(tmp_path / "file", size) == s3.etag(KEY)
    assert check(tmp_path / "file", s3.etag(KEY), lambda: 1) == "parts"  # one part: any size
    assert check(tmp_path / "file", "0" * 32 + "-99999", lambda: None) == "size"
    assert check(tmp_path / "file", "0" * 32 + "-2", lambda: 30_000) is None


# The disk, and other processes.


def test_too_small_a_disk_is_said_before_a_byte_is_fetched(s3, bucket, target, monkeypatch):
    free = type("Usage", (), {"free": SIZE - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: free)
    with pytest.raises(OSError, match=r"the files need 40\.0kB, the disk has 40\.0kB free"):
        fetch_all([target], bucket, progress=False)
    assert s3.fetched == []
    partly(target, 1)  # one byte less to fetch: it fits
    assert fetch_all([target], bucket, progress=False) == {target.path: "md5"}


def test_one_bad_file_does_not_keep_the_others(s3, bucket, target, tmp_path):
    s3.files["other"] = b"other"
    other = Target.whole(bucket.files("other")[0], tmp_path)
    del s3.files[KEY]
    with pytest.raises(OSError, match=r"1 of 2 files .* 404 Not Found"):
        fetch_all([target, other], bucket, connections=1, progress=False)
    assert other.path.read_bytes() == b"other"


@pytest.fixture
def child(target, bucket):
    """Starts processes that fetch the file."""
    context = multiprocessing.get_context("fork")
    children = []

    def start():
        work = partial(fetch_all, [target], Bucket(bucket._url, pause=0.001), progress=False)
        children.append(context.Process(target=work))
        children[-1].start()
        return children[-1]

    yield start
    for process in children:
        process.kill()
        process.join()


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def grown(target, n_bytes):
    return lambda: target.part.exists() and target.part.stat().st_size >= n_bytes


def test_killed_again_and_again(s3, bucket, target, child):
    gate = threading.Event()
    for reached in range(6000, SIZE, 6000):
        s3.faults.append(s3s.hold(6000, gate))
        process = child()
        wait_for(grown(target, reached))
        process.kill()
        process.join(20)
        assert found(target) == ("part", reached)
        assert not target.path.exists()
    gate.set()
    assert have(target, bucket) == "md5"
    assert whole(target)
    assert s3.requests[-1][2]["Range"] == f"bytes=36000-{SIZE - 1}"


def test_ctrl_c(s3, bucket, target, child):
    gate = threading.Event()
    s3.faults.append(s3s.hold(6000, gate))
    process = child()
    wait_for(grown(target, 6000))
    os.kill(process.pid, signal.SIGINT)
    gate.set()  # a connection that still brings bytes is left at its next chunk
    process.join(20)
    assert process.exitcode == 1
    assert found(target)[0] == "part"
    assert have(target, bucket) == "md5"
    assert whole(target)


def test_two_at_once_fetch_every_byte_once(s3, bucket, target, child):
    gate = threading.Event()
    s3.faults.append(s3s.hold(5000, gate))
    one = child()
    wait_for(grown(target, 5000))
    two = child()
    time.sleep(0.3)  # longer than a process looks away from a lock
    gate.set()
    for process in (one, two):
        process.join(20)
        assert process.exitcode == 0
    assert whole(target)
    assert s3.fetched == [KEY]


def test_a_part_that_gets_its_name_before_we_have_the_lock(s3, bucket, target, monkeypatch):
    have(target, bucket)
    s3.requests.clear()
    os.replace(target.path, target.part)
    real = fcntl.flock

    def late(file, how):
        if not target.path.exists():
            os.replace(target.part, target.path)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert have(target, bucket) == "md5"
    assert whole(target)
    assert s3.requests == []


def test_a_disk_that_fills_up(s3, bucket, target):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"file\.bin\.part") as caught:
            fetch_all([target], bucket, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG  # as ENOSPC: the system takes no more
    assert found(target) == ("part", 9000)  # kept, and of use
    assert not target.path.exists()
    assert have(target, Bucket(s3.url)) == "md5"
    assert whole(target)
