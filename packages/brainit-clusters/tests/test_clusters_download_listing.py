"""Listings: all pages, nothing but plain paths, and no XML that grows."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import brainit_clusters_s3_server as s3s
import pytest

from brainit_clusters.nsd_download import Bucket, RemoteFile, TransferError
from brainit_clusters.nsd_download.listing import parse_page

ETAG = "0123456789abcdef" * 2
LAUGHS = "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 10))
LAUGHS = f"<!DOCTYPE x [<!ENTITY a0 'lol'>{LAUGHS}]>"
EXTERNAL = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
HARMLESS = "<!DOCTYPE x [<!ENTITY e 'x'>]>"


@pytest.fixture
def bucket(s3):
    s3.files.update({f"a/{i:03d}": bytes(i) for i in range(25)} | {"b": b"b"})
    return Bucket(s3.url, timeout=20, pause=0.001)


def entry(key="a/x", size="5", etag=ETAG):
    inside = f"<Key>{key}</Key><ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size>"
    return f"<Contents>{inside}</Contents>"


@pytest.mark.parametrize("page_size", [1000, 25, 24, 10, 1])
def test_every_page_is_read(s3, bucket, page_size):
    s3.page_size = page_size
    files = bucket.files("a/")
    assert [(file.key, file.size) for file in files] == [(f"a/{i:03d}", i) for i in range(25)]
    assert all(file.etag == s3.etag(file.key) for file in files)
    assert len(s3.requests) == -(-25 // page_size)


def test_nothing_is_nothing(bucket):
    assert bucket.files("c") == []


def test_requests_are_anonymous_reads(s3, bucket):
    bucket.files("a/")
    b"".join(bucket.stream(bucket.files("b")[0], 0, 1))
    for method, _, headers in s3.requests:
        assert method == "GET"
        assert not {"authorization", "cookie"} & {name.lower() for name in headers}
        assert headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "fault",
    [
        s3s.status(500),
        s3s.status(503),
        s3s.cut(100),
        s3s.raw(b""),
        s3s.header("Content-Encoding", "gzip"),
    ],
)
def test_a_passing_fault_of_a_page(s3, bucket, fault):
    s3.page_size = 10
    s3.list_faults.extend([lambda reply: None, fault])
    assert len(bucket.files("a/")) == 25


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (s3s.status(403), "403 Forbidden"),
        (s3s.status(404), "404 Not Found"),
        (s3s.status(301, Location="https://example.org/"), "example.org"),
    ],
)
def test_a_final_answer_to_a_page(s3, bucket, fault, said):
    s3.list_faults.append(fault)
    with pytest.raises(TransferError, match=said):
        bucket.files("a/")


WRONG = {
    "nothing": b"",
    "no XML": b"<html><body>Sign in to the hotel",
    "another XML": b"<Error><Code>AccessDenied</Code></Error>",
    "laughs": s3s.page("<IsTruncated>&a9;</IsTruncated>", LAUGHS),
    "laughs in UTF-16": s3s.page("&a9;", LAUGHS)
    .decode()
    .replace("UTF-8", "UTF-16")
    .encode("utf-16"),
    "external": s3s.page(entry("a/&e;"), EXTERNAL),
    "a harmless entity": s3s.page(entry("a/&e;"), HARMLESS),
    "undeclared": s3s.page(entry("a/&e;")),
    "Latin-1": s3s.page(entry("a/ä")).decode().encode("latin-1"),
    "truncated without token": s3s.page("<IsTruncated>true</IsTruncated>"),
    "up": s3s.page(entry("a/../../../etc/passwd")),
    "here": s3s.page(entry("a/./x")),
    "empty part": s3s.page(entry("a//x")),
    "absolute": s3s.page(entry("/etc/passwd")),
    "backslash": s3s.page(entry("a/..\\..\\x")),
    "line feed": s3s.page(entry("a/x&#10;y")),
    "outside": s3s.page(entry("b/x")),
    "no key": s3s.page(entry("")),
    "no size": s3s.page(entry(size="")),
    "below zero": s3s.page(entry(size="-1")),
    "no number": s3s.page(entry(size="5e3")),
    "huge": s3s.page(entry(size="9" * 40)),
    "no ETag": s3s.page(entry(etag="")),
    "odd ETag": s3s.page(entry(etag="*")),
    "header in ETag": s3s.page(entry(etag="a&#13;&#10;X-Evil: 1")),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_proper_listing_is_refused(s3, bucket, name):
    s3.list_faults.append(s3s.body(lambda body: WRONG[name]))
    with pytest.raises(ValueError, match=r"the listing of 'a/'"):
        bucket.files("a/")


def test_the_proper_form_of_these_is_read():
    assert parse_page(s3s.page(entry() + entry("a/")), "a/") == ([RemoteFile("a/x", 5, ETAG)], None)


def test_a_listing_without_end_is_left(s3, bucket, monkeypatch):
    monkeypatch.setattr("brainit_clusters.nsd_download.bucket._PAGES", 5)
    s3.page_size = 1
    with pytest.raises(ValueError, match="does not end"):
        bucket.files("a/")
    assert len(s3.requests) == 5


def test_a_page_is_read_up_to_a_bound(s3, bucket, monkeypatch):
    monkeypatch.setattr("brainit_clusters.nsd_download.bucket._PAGE_BYTES", 200)
    with pytest.raises(TransferError, match="was cut"):
        bucket.files("a/")


@pytest.mark.parametrize(
    "url",
    [
        "http://natural-scenes-dataset.s3.amazonaws.com",
        "http://localhost.example.org",
        "http://10.0.0.1",
        "file:///etc",
        "ftp://127.0.0.1",
        "127.0.0.1:80",
        "https://",
        "https://me:secret@example.org",
        "https://example.org/?a=b",
        "",
    ],
)
def test_urls_that_are_refused(url):
    with pytest.raises(ValueError, match="expected"):
        Bucket(url)


@pytest.mark.parametrize("url", ["https://example.org/nsd", "http://localhost:1", "http://[::1]:1"])
def test_urls_that_are_taken(url):
    Bucket(url)


def test_the_environments_proxy_is_used(s3, monkeypatch):
    monkeypatch.setenv("https_proxy", s3.url)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(TransferError, match="Tunnel connection failed: 501"):  # it cannot CONNECT
        Bucket("https://example.org", pause=0.001).files("a/")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
def test_a_certificate_that_nobody_vouches_for(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with s3s.serve(context) as s3:
        s3.files["a/x"] = b"x"
        with pytest.raises(TransferError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            Bucket(s3.url).files("a/")
        assert not caught.value.passing  # not tried again
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(certificate))
            assert [file.key for file in Bucket(s3.url).files("a/")] == ["a/x"]
