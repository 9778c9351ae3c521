"""The report: scores, pictures and figures on one page that needs no network."""

from __future__ import annotations

from brainit_eval.report.gallery import Gallery, GalleryRow, choose_rows, write_gallery
from brainit_eval.report.page import (
    Figure,
    Headline,
    Report,
    ScoreRow,
    ScoreTable,
    SettingsBlock,
    write_report,
)

__all__ = [
    "Figure",
    "Gallery",
    "GalleryRow",
    "Headline",
    "Report",
    "ScoreRow",
    "ScoreTable",
    "SettingsBlock",
    "choose_rows",
    "write_gallery",
    "write_report",
]
