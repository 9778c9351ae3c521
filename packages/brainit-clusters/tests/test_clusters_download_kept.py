"""What a download finds on disk, what it verifies it by, and other processes beside it."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import resource
import signal
import threading
import time
from functools import partial

import brainit_clusters_s3_server as s3s
import pytest
from brainit_clusters_one_file import CONTENT, KEY, SIZE, have, partly, whole

from brainit_clusters.nsd_download import Bucket, Target, fetch_all, found
from brainit_clusters.nsd_download.etag import check, etag_of_parts

MIB = 2**20


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
    s3.faults.append(s3s.drip(0.001))  # a connection that brings bytes is left at the next ones
    # What is started in a shell's background ignores Ctrl-C, and hands that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = child()
    signal.signal(signal.SIGINT, before)
    wait_for(grown(target, 100))
    os.kill(process.pid, signal.SIGINT)
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
