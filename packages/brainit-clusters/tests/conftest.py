from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from brainit_clusters.nsd_download import Bucket, Target


def _helper(name: str):
    """A module beside the tests: these are imported by path (importlib mode), so it is too."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"brainit_clusters_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


nsd_files = _helper("nsd_files")
own_data = _helper("own_data")
s3_server = _helper("s3_server")
one_file = _helper("one_file")


@pytest.fixture
def tree(tmp_path: Path):
    return nsd_files.write_tree(tmp_path / "nsd")


@pytest.fixture
def data(tmp_path: Path):
    return own_data.trial_data(tmp_path)


@pytest.fixture
def s3():
    with s3_server.serve() as bucket:
        yield bucket


@pytest.fixture
def bucket(s3):
    s3.files[one_file.KEY] = one_file.CONTENT
    return Bucket(s3.url, timeout=20, pause=0.001)  # a busy machine is no fault


@pytest.fixture
def hasty(s3):
    return Bucket(s3.url, timeout=0.3, pause=0.001)


@pytest.fixture
def target(bucket, tmp_path: Path):
    return Target.whole(bucket.files(one_file.KEY)[0], tmp_path)


@pytest.fixture(scope="session")
def toy():
    pytest.importorskip("torch")
    return _helper("toy_encoder")
