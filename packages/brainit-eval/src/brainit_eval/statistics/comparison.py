"""Two results side by side: paired differences, tests, Holm's correction over metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from brainit_eval.bootstrap import bootstrap_mean, draw_weights, percentile_interval
from brainit_eval.results import Result
from brainit_eval.statistics.permutation import (
    attainable_p,
    holm,
    sign_flip_test,
    subject_test,
)


@dataclass(frozen=True)
class MetricComparison:
    """One metric of two methods.

    Attributes:
        first: Mean over subjects of the first method.
        second: Of the second.
        difference: First less second.
        low: Lower end of the 95 % interval of the difference over images.
        high: Upper end.
        p: Two-sided p of sign flips over images.
        p_holm: The same, adjusted for all metrics compared.
        p_subjects: Two-sided p of sign flips over subjects.
        higher_is_better: Direction.
        better: Name of the better method if ``p_holm`` is below 0.05, else None.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    p_subjects: float
    higher_is_better: bool
    better: str | None


@dataclass(frozen=True)
class Comparison:
    """Two methods under one protocol on one test set.

    Attributes:
        first: Name of the first method.
        second: Of the second.
        protocol: Name and hash of the protocol.
        subjects: Who was scored.
        metrics: Metric to its comparison.
        notes: What a reader must know, one line each.
    """

    first: str
    second: str
    protocol: tuple[str, str]
    subjects: tuple[str, ...]
    metrics: Mapping[str, MetricComparison]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(
    first: Result,
    second: Result,
    *,
    n_permutations: int = 10_000,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two methods metric by metric, image by image.

    Samples of a generator are averaged for each image first.

    Args:
        first: Result of one method.
        second: Of another, under the same protocol and on the same images of the same subjects.
        n_permutations: Sign patterns that are drawn at most.
        n_bootstrap: Resamples of images behind the intervals.
        seed: Seed of both.

    Returns:
        Differences with intervals, p-values with Holm's correction over the metrics in common.

    Raises:
        ValueError: If protocol, test set, subjects or images differ, no metric is common, or an
            image's score is not finite.
    """
    _check(first, second)
    names = [name for name in first.metrics if name in second.metrics]
    if not names:
        raise ValueError("results: expected a metric in common")
    tests, rows = {}, {}
    for name in names:
        a, b = ({s: _column(result, s, name) for s in first.subjects} for result in (first, second))
        ids = {subject: np.array(list(column)) for subject, column in a.items()}
        for subject in a:
            if set(a[subject]) != set(b[subject]):
                raise ValueError(f"{subject}: expected the same images in both results")
        values = {s: np.array([[a[s][i], b[s][i]] for i in ids[s].tolist()]).T for s in a}
        gaps = {s: both[0] - both[1] for s, both in values.items()}
        try:
            tests[name] = sign_flip_test(gaps, ids, n_permutations=n_permutations, seed=seed)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        weights = draw_weights(ids, n_bootstrap, seed)
        draws = [bootstrap_mean(gaps[s], weights[s]) for s in gaps]
        means = np.mean([both.mean(1) for both in values.values()], axis=0)
        people = subject_test([gap.mean() for gap in gaps.values()])
        rows[name] = (means, percentile_interval(draws), people.p)
    adjusted = holm({name: test.p for name, test in tests.items()})
    metrics = {}
    for name, (means, interval, p_people) in rows.items():
        higher = first.metrics[name].higher_is_better
        ahead = (tests[name].difference > 0) == higher
        better = (first.method if ahead else second.method) if adjusted[name] < 0.05 else None
        metrics[name] = MetricComparison(
            float(means[0]),
            float(means[1]),
            tests[name].difference,
            *interval,
            tests[name].p,
            adjusted[name],
            p_people,
            higher,
            better,
        )
    protocol = (first.protocol.name, first.protocol.hash)
    smallest = max(test.smallest for test in tests.values())
    notes = _notes(first, second, smallest)
    return Comparison(first.method, second.method, protocol, first.subjects, metrics, notes)


def _column(result: Result, subject: str, metric: str) -> dict[str, float]:
    """Image id to the mean over its samples."""
    table = result.per_image
    mine = table.subject == subject
    ids, rows = np.unique(table.image_id[mine], return_inverse=True)
    means = np.bincount(rows, table.values[metric][mine]) / np.bincount(rows)
    return dict(zip(ids.tolist(), means.tolist(), strict=True))


def _check(first: Result, second: Result) -> None:
    pairs = {
        "protocol": (first.protocol.hash, second.protocol.hash),
        "test set": (first.test_set.ids_sha256, second.test_set.ids_sha256),
    }
    shown = {
        "protocol": (first.protocol.name, second.protocol.name),
        "test set": (first.test_set.name, second.test_set.name),
    }
    for what, (a, b) in pairs.items():
        if a != b:
            names = " and ".join(
                f"{name} ({value[:16]})" for name, value in zip(shown[what], (a, b), strict=True)
            )
            raise ValueError(f"results: expected one {what}, got {names}: not comparable")
    if set(first.subjects) != set(second.subjects):
        lists = f"{', '.join(first.subjects)} and {', '.join(second.subjects)}"
        raise ValueError(f"results: expected the same subjects, got {lists}")


def _notes(first: Result, second: Result, smallest: float) -> tuple[str, ...]:
    n = len(first.subjects)
    people = "subject" if n == 1 else "subjects"
    notes = [
        f"p over images: what other images would show for these {n} {people}; the smallest that "
        f"this test can give is {smallest:.2g}, before Holm's correction.",
        f"p over subjects: with {n} {people} it is at least {attainable_p(n):.4g} one-sided and "
        f"{attainable_p(n, two_sided=True):.4g} two-sided, whatever the data.",
    ]
    left = sorted(set(first.metrics) ^ set(second.metrics))
    if left:
        notes.append(f"Not in both results, so not compared: {', '.join(left)}.")
    if first.weights != second.weights:
        notes.append("The networks' weights differ between the results.")
    if first.samples != second.samples:
        notes.append(f"Samples an image: {first.samples} and {second.samples}; their mean counts.")
    return tuple(notes)
