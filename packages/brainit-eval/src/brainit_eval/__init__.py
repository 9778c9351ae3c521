"""Scores, confidence intervals and a report for images reconstructed from brain activity.

Names are imported on first use, so that ``import brainit_eval`` loads neither torch nor timm.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from brainit_eval.__about__ import __version__

if TYPE_CHECKING:
    from brainit_eval.benchmark import Benchmark
    from brainit_eval.controls.shuffles import derangement, shuffled
    from brainit_eval.feature_cache import FeatureCache
    from brainit_eval.features import EfficientNetLite0
    from brainit_eval.metrics.distance import correlation_distance
    from brainit_eval.metrics.identification import (
        Identification,
        Ranks,
        TwoWay,
        against,
        identify,
        n_way,
        two_way,
    )
    from brainit_eval.metrics.pixels import pixcorr, ssim, ssim_columns
    from brainit_eval.metrics.registry import METRICS, Metric
    from brainit_eval.metrics.retrieval import Retrieval, retrieve
    from brainit_eval.metrics.streaming import (
        CorrelationDistance,
        PerceptualDistance,
        PixelMetric,
        StreamingMetric,
        TwoWayIdentification,
        streaming,
    )
    from brainit_eval.network_features import network_features
    from brainit_eval.networks import WeightStore, load_network
    from brainit_eval.pictures.open import open_pictures, open_truth
    from brainit_eval.pictures.sets import Pictures, from_arrays
    from brainit_eval.protocol import Protocol, frozen_protocols
    from brainit_eval.records.result import Result
    from brainit_eval.report.gallery import Gallery, GalleryRow, choose_rows, write_gallery
    from brainit_eval.report.of_result import result_report
    from brainit_eval.report.page import Figure, Headline, Report, SettingsBlock, write_report
    from brainit_eval.report.scores import ScoreRow, ScoreTable
    from brainit_eval.score import Score, Scorer, Scores, named, score_images
    from brainit_eval.statistics.bootstrap import (
        bootstrap_mean,
        bootstrap_two_way,
        draw_weights,
        percentile_interval,
    )

_HOME = {
    "Benchmark": "benchmark",
    "CorrelationDistance": "metrics.streaming",
    "EfficientNetLite0": "features",
    "FeatureCache": "feature_cache",
    "Figure": "report.page",
    "Gallery": "report.gallery",
    "GalleryRow": "report.gallery",
    "Headline": "report.page",
    "Identification": "metrics.identification",
    "METRICS": "metrics.registry",
    "Metric": "metrics.registry",
    "PerceptualDistance": "metrics.streaming",
    "Pictures": "pictures.sets",
    "PixelMetric": "metrics.streaming",
    "Protocol": "protocol",
    "Ranks": "metrics.identification",
    "Report": "report.page",
    "Result": "records.result",
    "Retrieval": "metrics.retrieval",
    "Score": "score",
    "ScoreRow": "report.scores",
    "ScoreTable": "report.scores",
    "Scorer": "score",
    "Scores": "score",
    "SettingsBlock": "report.page",
    "StreamingMetric": "metrics.streaming",
    "TwoWay": "metrics.identification",
    "TwoWayIdentification": "metrics.streaming",
    "WeightStore": "networks",
    "against": "metrics.identification",
    "bootstrap_mean": "statistics.bootstrap",
    "bootstrap_two_way": "statistics.bootstrap",
    "choose_rows": "report.gallery",
    "correlation_distance": "metrics.distance",
    "derangement": "controls.shuffles",
    "draw_weights": "statistics.bootstrap",
    "from_arrays": "pictures.sets",
    "frozen_protocols": "protocol",
    "identify": "metrics.identification",
    "load_network": "networks",
    "n_way": "metrics.identification",
    "named": "score",
    "network_features": "network_features",
    "open_pictures": "pictures.open",
    "open_truth": "pictures.open",
    "percentile_interval": "statistics.bootstrap",
    "pixcorr": "metrics.pixels",
    "result_report": "report.of_result",
    "retrieve": "metrics.retrieval",
    "score_images": "score",
    "shuffled": "controls.shuffles",
    "ssim": "metrics.pixels",
    "ssim_columns": "metrics.pixels",
    "streaming": "metrics.streaming",
    "two_way": "metrics.identification",
    "write_gallery": "report.gallery",
    "write_report": "report.page",
}

__all__ = [
    "METRICS",
    "Benchmark",
    "CorrelationDistance",
    "EfficientNetLite0",
    "FeatureCache",
    "Figure",
    "Gallery",
    "GalleryRow",
    "Headline",
    "Identification",
    "Metric",
    "PerceptualDistance",
    "Pictures",
    "PixelMetric",
    "Protocol",
    "Ranks",
    "Report",
    "Result",
    "Retrieval",
    "Score",
    "ScoreRow",
    "ScoreTable",
    "Scorer",
    "Scores",
    "SettingsBlock",
    "StreamingMetric",
    "TwoWay",
    "TwoWayIdentification",
    "WeightStore",
    "__version__",
    "against",
    "bootstrap_mean",
    "bootstrap_two_way",
    "choose_rows",
    "correlation_distance",
    "derangement",
    "draw_weights",
    "from_arrays",
    "frozen_protocols",
    "identify",
    "load_network",
    "n_way",
    "named",
    "network_features",
    "open_pictures",
    "open_truth",
    "percentile_interval",
    "pixcorr",
    "result_report",
    "retrieve",
    "score_images",
    "shuffled",
    "ssim",
    "ssim_columns",
    "streaming",
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
