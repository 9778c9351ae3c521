"""Which kind of image each one is: people, food, a landscape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from brainit_eval.records.fields import read_csv
from brainit_eval.records.labels import check_title, image_id


def read_categories(path: Path) -> dict[str, str]:
    """Read a CSV file with the columns ``image_id`` and ``category``.

    Returns:
        Image id to category.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such table, or an image occurs twice.
    """
    table = read_csv(path, ("image_id", "category"))
    rows = [
        (
            image_id(row["image_id"], f"{path}: image_id"),
            check_title(row["category"], f"{path}: category of {row['image_id']}"),
        )
        for row in table
    ]
    kinds = dict(rows)
    if len(kinds) != len(rows):
        raise ValueError(f"{path}: expected every image once, got {len(rows)} rows")
    return kinds


def categories_of(ids: Iterable[str], kinds: Mapping[str, str]) -> list[str]:
    """The category of each image, in the order of the ids.

    Raises:
        ValueError: If one has none.
    """
    ids = list(ids)
    if missing := [value for value in ids if value not in kinds]:
        raise ValueError(f"categories: {len(missing)} images have none, the first is {missing[0]}")
    return [kinds[value] for value in ids]
