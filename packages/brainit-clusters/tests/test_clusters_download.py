"""One file from a bucket that misbehaves: whole and verified, or not there."""

from __future__ import annotations

import threading

import brainit_clusters_s3_server as s3s
import pytest
from brainit_clusters_one_file import CONTENT, KEY, SIZE, have, partly, whole

from brainit_clusters.nsd_download import Bucket, Target, TransferError, found

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
