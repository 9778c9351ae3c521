"""Checkpoints on small file systems: what is said of each beforehand, and what happens.

To be run where file systems can be mounted: ``unshare -Urm python full_disk.py FOLDER``. Prints
JSON, an object a file system.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from brainit.checkpoint import (
    BEST,
    LAST,
    CheckpointError,
    check_room,
    load_checkpoint,
    newest,
    save_checkpoint,
)

QUARTERS = 32


def main() -> None:
    module = nn.Linear(360, 256)
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(360)).sum().backward()
    optimiser.step()
    found = []
    for quarters in range(1, QUARTERS + 1):
        disk = Path(sys.argv[1]) / str(quarters)
        disk.mkdir()
        size = f"size={quarters * 256}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)], check=True)
        found.append(on_disk(disk / "checkpoints", module, optimiser))
    print(json.dumps(found))


def on_disk(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, object]:
    """What was said, whether three epochs' checkpoints fit, whether what is read is whole."""
    said = ""
    try:
        check_room(folder, module, 2)
    except CheckpointError as error:
        said = str(error)
    fits = True
    try:
        for number in range(4):
            save_checkpoint(folder / BEST, module, None, {})
            save_checkpoint(folder / LAST, module, optimiser, {"number": number})
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        fits = False
    path = newest(folder)
    whole = path is None or "number" in load_checkpoint(path, module, optimiser)
    return {"said": said, "fits": fits, "whole": whole}


if __name__ == "__main__":
    main()
