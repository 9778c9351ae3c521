"""Names of map files in a BIDS derivative: one builder, and the parser that undoes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

ENTITIES = ("sub", "task", "hemi", "space", "den", "stat", "desc")
"""In the order of BIDS, `desc` last; `stat` is where nilearn's and fitlins' models put it."""
_LABEL = re.compile("[0-9A-Za-z]+")
_EXTENSION = re.compile(r"(\.[0-9A-Za-z]+)+")


@dataclass(frozen=True)
class MapName:
    """A file name such as ``sub-01_task-nsdcore_hemi-L_space-fsaverage_den-164k_..._dseg.tsv``.

    Attributes:
        sub: Subject.
        suffix: What the file holds: "dseg" labels, "statmap" one number a voxel.
        extension: With its dots, such as ".label.gii".
        task: Task during which the data were measured, if known.
        hemi: "L", "R", or None where both are in the file or there are none.
        space: Standard space, None for the subject's own.
        den: Density of the space's mesh, such as "164k"; None for volumes.
        stat: Which number.
        desc: Which variant.

    Raises:
        ValueError: if a label holds anything but letters and digits, or the extension has no dot.
    """

    sub: str
    suffix: str
    extension: str
    task: str | None = None
    hemi: str | None = None
    space: str | None = None
    den: str | None = None
    stat: str | None = None
    desc: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            pattern = _EXTENSION if field.name == "extension" else _LABEL
            if value is not None and not pattern.fullmatch(value):
                raise ValueError(f"{field.name} is {value!r}, expected letters and digits alone")
        if self.hemi not in (None, "L", "R"):
            raise ValueError(f"hemi is {self.hemi!r}, expected 'L' or 'R'")

    def __str__(self) -> str:
        pairs = [f"{key}-{value}" for key in ENTITIES if (value := getattr(self, key)) is not None]
        return "_".join([*pairs, self.suffix]) + self.extension

    @property
    def path(self) -> Path:
        """The file's place below the derivative's root; pictures lie apart from the data."""
        folder = "figures" if self.extension in (".png", ".html") else "func"
        return Path(f"sub-{self.sub}", folder, str(self))

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name that `str` wrote.

        Raises:
            ValueError: if it is not such a name.
        """
        stem, dot, extension = name.partition(".")
        *pairs, suffix = stem.split("_")
        split = [pair.partition("-") for pair in pairs]
        found = {key: value for key, _, value in split}
        if not found.keys() <= set(ENTITIES) or "sub" not in found:
            raise ValueError(f"{name}: expected entities among {ENTITIES}, sub first")
        parsed = cls(suffix=suffix, extension=dot + extension, **found)
        if str(parsed) != name:
            raise ValueError(f"{name}: entities come twice or out of order, expected {parsed}")
        return parsed


def bids_label(text: str) -> str:
    """The letters and digits of a text: what BIDS allows as a label ("noise-ceiling": no hyphen).

    Raises:
        ValueError: if there are none.
    """
    label = "".join(_LABEL.findall(text))
    if not label:
        raise ValueError(f"{text!r} holds no letter or digit, expected at least one")
    return label


def subject_label(name: str) -> str:
    """A subject's BIDS label: "subj01" and "sub-01" are both "01"."""
    return bids_label(re.sub("^(subj|sub)-?(?=[0-9A-Za-z])", "", name))
