"""Lets the app's tests import what lies beside them: importlib mode adds no folder to the path."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def hasty_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk changes what a power cut leaves, which no test can make, and time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
