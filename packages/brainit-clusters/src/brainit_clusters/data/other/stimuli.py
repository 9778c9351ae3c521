"""Images of own data: a folder of files, or rows of an array."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brainit_clusters._files import existing
from brainit_clusters.data.images import ResizedImages, resize
from brainit_clusters.data.other.arrays import open_array

_MODES = ("RGB", "RGBA", "L", "P", "CMYK")


class Stimuli(Protocol):
    """Images by the names that the trial tables use.

    Attributes:
        image_id: int64 [n], ids of the images, ascending.
        names: A name of each image.
        id_of: Id by name, of every name that was asked for.
        files: The files they come from.
    """

    image_id: NDArray[np.int64]
    names: list[str]
    id_of: dict[str, int]
    files: tuple[Path, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, size, size, 3]."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]: ...


def open_images(source: str | Path, names: set[str], size: int) -> Stimuli:
    """Find every image that a trial table names.

    Args:
        source: A folder of image files, or an array (`.npy`, `.npz` or "file.h5:/images") uint8
            [n, H, W, 3]; images are square.
        names: File names within the folder, or 0-based rows of the array.
        size: Side of the stored images in pixels.

    Raises:
        FileNotFoundError: naming the image file that is missing.
        ValueError: naming the image that cannot be used.
    """
    if Path(source).is_dir():
        return _Folder(Path(source), names, size)
    return _Rows(source, names, size)


class _Folder:
    def __init__(self, folder: Path, names: set[str], size: int) -> None:
        self.names = sorted(names)
        self.files = tuple(folder / name for name in self.names)
        self.image_id = np.arange(len(self.names))
        self.id_of = {name: row for row, name in enumerate(self.names)}
        self._size = size
        for path in self.files:
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{path}: column image leads out of the folder of images")
            existing(path, "an image that the trial table names")
            _open_picture(path).close()

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names), self._size, self._size, 3)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        return np.stack([resize(_read_picture(path), self._size) for path in self.files[rows]])


def _open_picture(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error
    if picture.mode not in _MODES:
        raise ValueError(f"{path}: pixels are {picture.mode}, expected one of {_MODES}")
    if picture.width != picture.height:
        raise ValueError(f"{path}: {picture.width} x {picture.height} pixels, expected a square")
    return picture


def _read_picture(path: Path) -> NDArray[np.uint8]:
    with _open_picture(path) as picture:
        try:
            return np.asarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{path}: image cannot be read whole ({error})") from error


class _Rows(ResizedImages):
    def __init__(self, source: str | Path, names: set[str], size: int) -> None:
        array = open_array(source)
        shape = array.shape
        if array.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
            raise ValueError(
                f"{source}: images are {array.dtype} {shape}, expected uint8 [n, side, side, 3]"
            )
        self.id_of: dict[str, int] = {}
        for name in sorted(names):
            if not name.isdecimal() or int(name) >= shape[0]:
                raise ValueError(
                    f"{source}: {shape[0]} images, a trial table's column image says {name!r}; "
                    "expected a 0-based row"
                )
            self.id_of[name] = int(name)
        self.image_id = np.unique(np.array(list(self.id_of.values()), np.int64))
        self.names = [str(row) for row in self.image_id]
        self.files = array.files
        super().__init__(array, self.image_id, size)
