"""The report of a result: what was scored, beside what was seen and beside what was published."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from brainit_eval.__about__ import __version__
from brainit_eval.detectors.kinds import weak_categories
from brainit_eval.leaderboard.board import Leaderboard, Line, leaderboard
from brainit_eval.leaderboard.published import CONFIDENCE, load_published
from brainit_eval.metrics.registry import Metric
from brainit_eval.pictures.categories import categories_of
from brainit_eval.records.result import Result
from brainit_eval.report.controls import Controls
from brainit_eval.report.image_table import ImageTable
from brainit_eval.report.page import Headline, Report, SettingsBlock
from brainit_eval.report.plots import Dot, Panel, Plot
from brainit_eval.report.same_pictures import check_same_pictures
from brainit_eval.report.scores import ScoreRow, ScoreTable, number
from brainit_eval.report.shown import Sets, Shown, Truth, gallery, with_pictures
from brainit_eval.statistics.readings import mean_interval

_DRAWS = 2000
_LEVEL = 0.05
_HEADLINES = ("effnet", "two_way_clip", "two_way_late", "pixcorr", "ssim")


def result_report(
    result: Result,
    images: Sets,
    truth: Truth,
    *,
    beside: Sequence[Result] = (),
    categories: Mapping[str, str] | None = None,
    controls: Controls | None = None,
    ranked_by: str = "",
) -> Report:
    """Make a result's report, which `write_report` writes.

    Args:
        result: What it is about.
        images: The reconstructions that were scored, per subject one set per sample; shown is the
            first sample.
        truth: The images seen, one set for all subjects or one per subject.
        beside: Other results of the same protocol, test set and subjects, for the score table.
        categories: Image id to kind of image.
        controls: What `brainit-eval controls` wrote for these pictures.
        ranked_by: Metric that orders images and methods; else the first of `RANKED_BY` there is.

    Raises:
        ValueError: If pictures, categories or controls are not of the result's subjects and images,
            the pictures are not those that were scored, or the results are not comparable.
    """
    board = leaderboard([result, *beside], load_published(), ranked_by or None)
    shown = with_pictures(result, images, truth, board.ranked_by.name)
    order, pictures = gallery(shown)
    check_same_pictures(result, shown.images, shown.seen, order)
    if controls is not None:
        _check_controls(controls, shown)
    kinds = None
    if categories is not None:
        kinds = {name: categories_of(s.ids, categories) for name, s in shown.seen.items()}
    return Report(
        title=result.method,
        subtitle=_subtitle(result),
        headline=_headline(shown),
        warnings=result.warnings,
        galleries=[pictures],
        tables=[_table(board, shown)],
        plots=[*_by_subject(shown), *_by_category(shown, kinds)],
        controls=controls,
        images=_image_table(shown, kinds),
        settings=_settings(result),
        limits=_limits(result, controls),
        footer=f"Made with brainit-eval {__version__}. One file, nothing loaded from elsewhere.",
    )


def _subtitle(result: Result) -> str:
    n = len(result.subjects)
    people = "subject" if n == 1 else "subjects"
    samples = f", {result.samples} samples of each" if result.samples > 1 else ""
    return (
        f"Images reconstructed from the brain activity of {n} {people}: "
        f"{result.test_set.n_images} images of {result.test_set.name}{samples}, scored by the "
        f"protocol {result.protocol.name} ({result.protocol.hash[:16]})."
    )


def _headline(shown: Shown) -> list[Headline]:
    names = [name for name in _HEADLINES if name in shown.metrics] or list(shown.metrics)[:4]
    items = []
    for name in names[:4]:
        metric, score = shown.metrics[name], shown.result.metrics[name]
        low, high = (number(end, metric) for end in (score.low, score.high))
        title = f"{metric.label} {'↑' if metric.higher_is_better else '↓'}"
        unit = " %" if metric.percent else ""
        items.append(Headline(title, number(score.value, metric) + unit, f"95 %: {low} to {high}"))
    return items


def _table(board: Leaderboard, shown: Shown) -> ScoreTable:
    result = shown.result
    specs = [result.protocol.metric(name) for name in shown.metrics]
    unsure = "; ".join(text for name, text in CONFIDENCE.items() if name != "paper")
    key = ["Barred at its left: what this page is about"]
    if any(not line.own for line in board.lines):
        key += [f"†: {unsure}", "Without an interval: published, and empty where not confirmed"]
    return ScoreTable(
        [_row(line, line.own and line.method == result.method) for line in board.lines],
        title="Scores",
        caption=(
            f"{board.title}. {_better(board.ranked_by)} first. Published rows stand here only if "
            "they have the same protocol, test set and subjects; test sets are compared by name "
            "and number of images, since papers name no ids."
        ),
        metrics=shown.metrics,
        key=key,
        left_out=board.left_out,
        directions={str(spec["direction"]) for spec in specs if spec.get("direction")},
    )


def _better(metric: Metric) -> str:
    return f"{'Highest' if metric.higher_is_better else 'Lowest'} {metric.label}"


def _row(line: Line, own: bool) -> ScoreRow:
    scores = {}
    for name, entry in line.scores.items():
        low, high = entry.interval or (math.nan, math.nan)
        scores[name] = {"value": entry.value, "low": low, "high": high}
    hours = "" if line.hours is None else f", {line.hours:g} h"
    return ScoreRow(
        line.method + hours,
        scores,
        own=own,
        unsure=[name for name, entry in line.scores.items() if not entry.sure],
        footnotes=() if own else line.notes,
    )


def _by_subject(shown: Shown) -> list[Plot]:
    result = shown.result
    if len(result.subjects) < 2:
        return []
    panels = []
    for name, metric in shown.metrics.items():
        dots = [
            Dot(subject, result.metrics[name].per_subject[subject], *_interval(values))
            for subject, values in shown.scores[name].items()
        ]
        panels.append(Panel(metric, dots, result.metrics[name].value))
    caption = (
        "Mean and 95 % bootstrap interval over images; dotted: mean over subjects. An image's "
        "share of distractors beaten counts as one value here."
    )
    return [Plot("By subject", caption, panels)]


def _by_category(shown: Shown, kinds: Mapping[str, Sequence[str]] | None) -> list[Plot]:
    if kinds is None:
        return []
    panels = []
    for name, metric in shown.metrics.items():
        values, labels = _per_image(shown, name, kinds)
        found = weak_categories(values, labels, higher_is_better=metric.higher_is_better).detail
        dots = [
            Dot(kind, row["mean"], row["low"], row["high"], marked=row["p"] < _LEVEL)
            for kind, row in found["categories"].items()
        ]
        panels.append(Panel(metric, dots, float(values.mean())))
    caption = (
        "Mean over images, each the mean of its subjects, with its 95 % bootstrap interval; "
        f"dotted: mean over all images. Red: worse than the other images, p < {_LEVEL} by "
        "permutation, corrected for the number of categories but not for that of metrics."
    )
    return [Plot("By category", caption, panels)]


def _per_image(
    shown: Shown, metric: str, kinds: Mapping[str, Sequence[str]]
) -> tuple[np.ndarray, list[str]]:
    """Mean over the subjects who saw an image, and its category, image by image."""
    found: dict[str, list[float]] = {}
    kind: dict[str, str] = {}
    for subject, values in shown.scores[metric].items():
        for image, value, label in zip(
            shown.seen[subject].ids, values.tolist(), kinds[subject], strict=True
        ):
            found.setdefault(image, []).append(value)
            kind[image] = label
    return np.array([np.mean(values) for values in found.values()]), list(kind.values())


def _interval(values: np.ndarray) -> tuple[float, float]:
    return mean_interval(values, _DRAWS, 0)


def _image_table(shown: Shown, kinds: Mapping[str, Sequence[str]] | None) -> ImageTable:
    subjects = [name for name, seen in shown.seen.items() for _ in seen.ids]
    samples = shown.result.samples
    mean = f" Scores are means over {samples} samples; shown is the first." if samples > 1 else ""
    return ImageTable(
        subject=subjects,
        image_id=[image for seen in shown.seen.values() for image in seen.ids],
        values=[
            (metric, np.concatenate(list(shown.scores[name].values())))
            for name, metric in shown.metrics.items()
        ],
        pictures={"Seen": shown.seen, "Rec.": shown.images},
        category=None if kinds is None else [kind for each in kinds.values() for kind in each],
        caption=f"One row per subject and image; two-way scores are the share of distractors "
        f"beaten. The last line holds the means of the rows shown.{mean}",
    )


def _settings(result: Result) -> list[SettingsBlock]:
    protocol, test_set = result.protocol, result.test_set
    return [
        SettingsBlock(
            "Protocol and test set",
            {
                "protocol": protocol.name,
                "its hash": protocol.hash,
                "test set": test_set.name,
                "images": test_set.n_images,
                "hash of their ids": test_set.ids_sha256,
                "subjects": ", ".join(result.subjects),
                "samples an image": result.samples,
            },
        ),
        SettingsBlock(
            "Computed with",
            {
                "device": result.device,
                "precision": result.dtype,
                **result.options,
                **result.versions,
                "this page": f"brainit-eval {__version__}",
            },
        ),
        SettingsBlock(
            "Weights (SHA-256)",
            {name: f"{weights.name} {weights.sha256}" for name, weights in result.weights.items()},
        ),
        SettingsBlock("All settings of the protocol", text=json.dumps(protocol.settings, indent=1)),
    ]


def _limits(result: Result, controls: Controls | None) -> list[str]:
    texts = [
        "Intervals say what other test images would change, not what other subjects would.",
        "SSIM has a high floor: plain grey pictures score about .5 against photographs.",
        "Identification depends on the pool of images: scores of other test sets do not compare.",
    ]
    if controls is None:
        texts.append("No controls were given: `brainit-eval controls` makes them for a report.")
    return texts


def _check_controls(controls: Controls, shown: Shown) -> None:
    for subject, seen in shown.seen.items():
        if subject not in controls.readings:
            have = ", ".join(controls.readings)
            raise ValueError(f"controls: expected subject {subject}, got {have or 'none'}")
        if set(controls.image_ids[subject]) != set(seen.ids):
            raise ValueError(f"controls: {subject}: expected the images of the result, got others")
