"""Where things are in the workspace; what the tests of the whole share."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Member:
    """A distribution of the workspace."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        return self.folder / "src" / self.module

    @property
    def is_app(self) -> bool:
        return self.folder.parent.name == "apps"

    @cached_property
    def project(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text())["project"]

    def python_files(self) -> list[Path]:
        return sorted(self.source.rglob("*.py"))


MEMBERS = [
    Member(path.parent)
    for group in ("packages", "apps")
    for path in sorted(ROOT.glob(f"{group}/*/pyproject.toml"))
]
PACKAGES = [member for member in MEMBERS if not member.is_app]
