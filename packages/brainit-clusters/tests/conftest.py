from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

# Tests are imported by path (importlib mode), so a helper beside them is too.
_spec = importlib.util.spec_from_file_location(
    "brainit_clusters_nsd_files", Path(__file__).with_name("nsd_files.py")
)
assert _spec is not None
assert _spec.loader is not None
nsd_files = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = nsd_files
_spec.loader.exec_module(nsd_files)


@pytest.fixture
def tree(tmp_path: Path):
    return nsd_files.write_tree(tmp_path / "nsd")
