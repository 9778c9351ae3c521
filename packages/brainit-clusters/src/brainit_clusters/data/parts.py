"""What is done of a file that is not whole yet, so that an interrupted run can go on."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SETTINGS = "settings.json"
_log = logging.getLogger(__name__)


@contextmanager
def part_folder(output: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """A hidden folder beside `output`, gone once the body ends without an error.

    What an interrupted run left in it is kept if that run had the same settings.

    Args:
        output: The file that the parts are for.
        settings: JSON values that say what the parts were made from and how.
    """
    folder = output.with_name(f".{output.name}.parts")
    note, text = folder / _SETTINGS, json.dumps(settings, sort_keys=True)
    if note.is_file() and note.read_text() == text:
        _log.info("%s: going on with what is done", folder)
        for left in folder.rglob(".*.tmp"):  # of a run that was killed while it wrote
            left.unlink()
    else:
        if note.is_file():
            shutil.rmtree(folder)
        # A run that was stopped before its first note left an empty folder.
        folder.mkdir(parents=True, exist_ok=folder.is_dir() and not any(folder.iterdir()))
        note.write_text(text)
    yield folder
    shutil.rmtree(folder)
