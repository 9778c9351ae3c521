"""Images of a stage, each a PNG file that is whole or not there, so that making them can go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from brainit.run_folder import replacing
from brainit.stages.images_io import as_uint8


class Pictures:
    """A folder with SUBJECT/KIND/LABEL.png.

    Args:
        folder: Where.
        kinds: Kinds of image that are made of every scan.
    """

    def __init__(self, folder: Path, kinds: Sequence[str]) -> None:
        self.folder, self.kinds = folder, kinds

    def have(self, subject: str, labels: Sequence[str]) -> bool:
        """Whether every kind of these is there."""
        return all(self._path(subject, k, label).is_file() for k in self.kinds for label in labels)

    def write(self, subject: str, labels: Sequence[str], images: dict[str, Tensor]) -> None:
        """Write images in [0, 1] [n, 3, H, W] of every kind."""
        for kind in self.kinds:
            for label, pixels in zip(labels, as_uint8(images[kind]), strict=True):
                with replacing(self._path(subject, kind, label)) as temporary:
                    Image.fromarray(pixels).save(temporary, "PNG")

    def read(self, subject: str, kind: str, labels: Sequence[str]) -> NDArray[np.uint8]:
        """What was written: uint8 [n, H, W, 3]."""
        paths = (self._path(subject, kind, label) for label in labels)
        return np.stack([np.asarray(Image.open(path)) for path in paths])

    def _path(self, subject: str, kind: str, label: str) -> Path:
        return self.folder / subject / kind / f"{label}.png"
