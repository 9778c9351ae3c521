"""Libraries that only an extra brings."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module that needs the libraries of an extra.

    Raises:
        ModuleNotFoundError: naming the library that is missing, and the extra that brings it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is missing: pip install 'brainit-clusters[{extra}]'", name=error.name
        ) from error
