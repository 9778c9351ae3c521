"""The report: scores, pictures and figures on one page that needs no network."""

from __future__ import annotations

from brainit_eval.report.controls import Controls
from brainit_eval.report.gallery import Gallery, GalleryRow, choose_rows, write_gallery
from brainit_eval.report.image_table import ImageTable
from brainit_eval.report.of_result import result_report
from brainit_eval.report.page import Figure, Headline, Report, SettingsBlock, write_report
from brainit_eval.report.plots import Dot, Panel, Plot
from brainit_eval.report.scores import ScoreRow, ScoreTable

__all__ = [
    "Controls",
    "Dot",
    "Figure",
    "Gallery",
    "GalleryRow",
    "Headline",
    "ImageTable",
    "Panel",
    "Plot",
    "Report",
    "ScoreRow",
    "ScoreTable",
    "SettingsBlock",
    "choose_rows",
    "result_report",
    "write_gallery",
    "write_report",
]
