from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from brainit_eval.report.gallery import Gallery, GalleryRow, choose_rows, write_gallery


def test_rows_run_from_best_to_worst_through_the_median() -> None:
    values = np.array([0.4, 0.1, 0.9, 0.5, 0.7, 0.2, 0.3, 0.8, 0.6])
    rows = choose_rows(values, 5)
    assert [label for _, label in rows] == ["best", "top 25 %", "median", "bottom 25 %", "worst"]
    assert [values[index] for index, _ in rows] == [0.9, 0.7, 0.5, 0.3, 0.1]
    assert [index for index, _ in choose_rows(values, 3, higher_is_better=False)] == [1, 3, 2]


def test_choosing_all_rows_lists_each_once() -> None:
    assert sorted(i for i, _ in choose_rows(np.zeros(7), 7)) == list(range(7))


@pytest.mark.parametrize(("values", "n"), [([1, 2, 3], 5), ([1, 2, 3], 2), ([1, np.nan, 3], 3)])
def test_bad_choices_are_refused(values, n) -> None:
    with pytest.raises(ValueError, match="expected"):
        choose_rows(values, n)


def test_contact_sheet_holds_the_pictures_in_place(tmp_path) -> None:
    red, blue = np.zeros((3, 8, 8), np.float32), np.zeros((8, 8, 3), np.uint8)
    red[0], blue[..., 2] = 1, 255
    rows = [GalleryRow("best", {"seen": red, "fused": blue}), GalleryRow("worst", {"seen": blue})]
    path = write_gallery(Gallery(["seen", "fused"], rows), tmp_path / "sheet.png", 60, labels=False)
    sheet = np.asarray(Image.open(path))
    # Without labels: a gap of 6, a header of 28, pictures of 60.
    assert sheet[28 + 30, 6 + 30].tolist() == [255, 0, 0]
    assert sheet[28 + 30, 6 + 66 + 30].tolist() == [0, 0, 255]
    assert sheet[28 + 66 + 30, 6 + 30].tolist() == [0, 0, 255]
    assert sheet[28 + 66 + 30, 6 + 66 + 30].tolist() == [255, 255, 255]
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    "picture",
    [np.full((3, 4, 4), np.nan), np.full((3, 4, 4), 1.5), np.zeros((4, 4)), np.zeros((4, 4, 3))],
)
def test_bad_pictures_are_named(tmp_path, picture) -> None:
    gallery = Gallery(["seen"], [GalleryRow("median", {"seen": picture})])
    with pytest.raises(ValueError, match="median, seen: expected"):
        write_gallery(gallery, tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_unknown_columns_and_empty_galleries_are_refused() -> None:
    with pytest.raises(ValueError, match="no column named 'ridge'"):
        Gallery(["seen"], [GalleryRow("best", {"ridge": np.zeros((3, 4, 4))})])
    with pytest.raises(ValueError, match="expected columns and rows"):
        Gallery(["seen"], [])
