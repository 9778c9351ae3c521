"""Pretrained models by the names that profiles give them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

ZOO = "zoo:"


def resolve(name: str) -> str:
    """Replace a `zoo:NAME` by the folder of the tiny model that ships with the app.

    Args:
        name: A public name, a folder, or `[SCHEME:]zoo:NAME`; `zoo:` alone is the folder of all.

    Returns:
        The name with the folder filled in; open_clip names get open_clip's own `local-dir:` scheme.
    """
    scheme, found, model = name.rpartition(ZOO)
    if not found:
        return name
    folder = Path(str(resources.files("brainit") / "assets" / "models")) / model
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: no such tiny model ({folder} is missing)")
    return f"{scheme}local-dir:{folder}" if model == "clip" else f"{scheme}{folder}"
