"""Strict reading of small JSON, TOML and CSV files: known keys, stated types, nothing evaluated."""

from __future__ import annotations

import csv
import io
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainit_eval.records.labels import shown

_LARGEST = 4 << 20  # bytes; a record is a few kB


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is larger than 4 MiB, is no JSON object, repeats a key, or holds NaN.
    """
    text = _text(path)
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {_short(error)}") from None
    return _object(data, path)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is larger than 4 MiB or no TOML.
    """
    text = _text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected TOML, got {_short(error)}") from None


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file whose first line names the columns.

    Args:
        path: The file.
        columns: Columns that it must have; a cell that is missing is empty.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is larger than 4 MiB, no CSV, or a column is missing.
    """
    text = _text(path).removeprefix("\ufeff")
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"{path}: expected CSV, got {_short(error)}") from None
    if not set(columns) <= set(reader.fieldnames or ()):
        raise ValueError(f"{path}: expected the columns {' and '.join(columns)}")
    return rows


class Fields:
    """One table of a record, taken key by key; `close` refuses what nobody asked for."""

    def __init__(self, data: Any, where: str) -> None:
        """Begin reading.

        Args:
            data: The table.
            where: File and key path; errors start with it.

        Raises:
            ValueError: If it is no table.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"{where}: expected a table, got {shown(data)}")
        self._left = dict(data)
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def text(self, key: str, choices: tuple[str, ...] = ()) -> str:
        """A string of up to 1,000 printable characters, one of ``choices`` if there are any."""
        value = self._take(key)
        if not isinstance(value, str) or len(value) > 1000 or not value.isprintable():
            raise self._error(key, "one line of text", value)
        if choices and value not in choices:
            raise self._error(key, f"one of {', '.join(choices)}", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, as `text`."""
        values = self._take(key)
        if not isinstance(values, list):
            raise self._error(key, "a list of texts", values)
        items = Fields({f"{key}[{i}]": value for i, value in enumerate(values)}, self.where)
        return tuple(items.text(name) for name in items.names())

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number between ``low`` and ``high``, both allowed."""
        value = self._take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._error(key, f"a whole number from {low} to {high}", value)
        return value

    def number(self, key: str) -> float:
        """A finite number; null stands for NaN, which JSON has not."""
        value = self._take(key)
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._error(key, "a number", value)
        try:
            result = float(value)
        except OverflowError:
            raise self._error(key, "a finite number", value) from None
        if not math.isfinite(result):
            raise self._error(key, "a finite number", value)
        return result

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._take(key)
        if not isinstance(value, bool):
            raise self._error(key, "true or false", value)
        return value

    def table(self, key: str) -> Fields:
        """A table inside this one."""
        return Fields(self._take(key), f"{self.where}: {key}")

    def tables(self, key: str) -> list[Fields]:
        """A list of tables."""
        values = self._take(key)
        if not isinstance(values, list):
            raise self._error(key, "a list of tables", values)
        return [Fields(value, f"{self.where}: {key}[{i}]") for i, value in enumerate(values)]

    def raw(self, key: str) -> Any:
        """Any value, unchecked."""
        return self._take(key)

    def plain(self) -> dict[str, Any]:
        """All that is left, unchecked."""
        return {name: self._take(name) for name in self.names()}

    def names(self) -> list[str]:
        """Keys not taken yet.

        Raises:
            ValueError: If one is longer than 100 characters or not printable.
        """
        for key in self._left:
            if not isinstance(key, str) or len(key) > 100 or not key.isprintable():
                raise ValueError(f"{self.where}: expected keys of 100 characters, got {shown(key)}")
        return list(self._left)

    def close(self) -> None:
        """Refuse keys that were not taken.

        Raises:
            ValueError: Naming them.
        """
        if self._left:
            names = ", ".join(shown(key) for key in list(self._left)[:5])
            raise ValueError(f"{self.where}: unknown key {names}")

    def _take(self, key: str) -> Any:
        if key not in self._left:
            raise ValueError(f"{self.where}: expected the key {key!r}")
        return self._left.pop(key)

    def _error(self, key: str, expected: str, value: object) -> ValueError:
        return ValueError(f"{self.where}: {key}: expected {expected}, got {shown(value)}")


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path}: expected 4 MiB or less, got {path.stat().st_size} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, got {_short(error)}") from None


def _object(data: Any, path: Path) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object, got {shown(data)}")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key that occurs twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"the constant {name}")


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
