"""Lets the tests of the whole import their helpers: importlib mode adds no folder to the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; tests that add to it work on a copy."""
    from micro import demo

    folder = tmp_path_factory.mktemp("demo")
    assert demo(folder).splitlines()[-1] == f"report: {folder / 'report.html'}"
    return folder
