"""Scores, confidence intervals and a report for images reconstructed from brain activity.

Names are imported on first use, so that ``import brainit_eval`` loads neither torch nor timm.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from brainit_eval.__about__ import __version__

if TYPE_CHECKING:
    from brainit_eval.benchmark import Benchmark
    from brainit_eval.bootstrap import (
        bootstrap_mean,
        bootstrap_two_way,
        draw_weights,
        percentile_interval,
    )
    from brainit_eval.feature_cache import FeatureCache
    from brainit_eval.features import EfficientNetLite0
    from brainit_eval.gallery import Gallery, GalleryRow, choose_rows, write_gallery
    from brainit_eval.identification import TwoWay, n_way, two_way
    from brainit_eval.images import Pictures, from_arrays, open_pictures, open_truth
    from brainit_eval.metrics import METRICS, Metric
    from brainit_eval.networks import WeightStore
    from brainit_eval.pixels import pixcorr, ssim, ssim_columns
    from brainit_eval.protocol import Protocol, frozen_protocols
    from brainit_eval.report import (
        Figure,
        Headline,
        Report,
        ScoreRow,
        ScoreTable,
        SettingsBlock,
        write_report,
    )
    from brainit_eval.results import Result
    from brainit_eval.score import Score, Scorer, Scores, derangement, named, score_images, shuffled

_HOME = {
    "Benchmark": "benchmark",
    "EfficientNetLite0": "features",
    "FeatureCache": "feature_cache",
    "Figure": "report",
    "Gallery": "gallery",
    "GalleryRow": "gallery",
    "Headline": "report",
    "METRICS": "metrics",
    "Metric": "metrics",
    "Pictures": "images",
    "Protocol": "protocol",
    "Report": "report",
    "Result": "results",
    "Score": "score",
    "ScoreRow": "report",
    "ScoreTable": "report",
    "Scorer": "score",
    "Scores": "score",
    "SettingsBlock": "report",
    "TwoWay": "identification",
    "WeightStore": "networks",
    "bootstrap_mean": "bootstrap",
    "bootstrap_two_way": "bootstrap",
    "choose_rows": "gallery",
    "derangement": "score",
    "draw_weights": "bootstrap",
    "from_arrays": "images",
    "frozen_protocols": "protocol",
    "n_way": "identification",
    "named": "score",
    "open_pictures": "images",
    "open_truth": "images",
    "percentile_interval": "bootstrap",
    "pixcorr": "pixels",
    "score_images": "score",
    "shuffled": "score",
    "ssim": "pixels",
    "ssim_columns": "pixels",
    "two_way": "identification",
    "write_gallery": "gallery",
    "write_report": "report",
}

__all__ = [
    "METRICS",
    "Benchmark",
    "EfficientNetLite0",
    "FeatureCache",
    "Figure",
    "Gallery",
    "GalleryRow",
    "Headline",
    "Metric",
    "Pictures",
    "Protocol",
    "Report",
    "Result",
    "Score",
    "ScoreRow",
    "ScoreTable",
    "Scorer",
    "Scores",
    "SettingsBlock",
    "TwoWay",
    "WeightStore",
    "__version__",
    "bootstrap_mean",
    "bootstrap_two_way",
    "choose_rows",
    "derangement",
    "draw_weights",
    "from_arrays",
    "frozen_protocols",
    "n_way",
    "named",
    "open_pictures",
    "open_truth",
    "percentile_interval",
    "pixcorr",
    "score_images",
    "shuffled",
    "ssim",
    "ssim_columns",
    "two_way",
    "write_gallery",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
