"""Two results side by side: paired differences, tests, Holm's correction over metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from brainit_eval.records.result import Result
from brainit_eval.records.writing import write_text
from brainit_eval.statistics.bootstrap import bootstrap_mean, draw_weights, percentile_interval
from brainit_eval.statistics.permutation import (
    PairedTest,
    attainable_p,
    holm,
    sign_flip_test,
    subject_test,
)

SCHEMA = 1
ALPHA = 0.05


@dataclass(frozen=True)
class MetricComparison:
    """One metric of two methods.

    Attributes:
        first: Mean over subjects of the first method.
        second: Of the second.
        difference: That of the first less that of the second.
        low: Lower end of the 95 % interval of the difference over images.
        high: Upper end.
        p: Two-sided p of sign flips over images.
        p_holm: The same, adjusted for all metrics compared.
        p_subjects: Two-sided p of sign flips over subjects.
        higher_is_better: Direction.
        better: ``first`` or ``second`` if ``p_holm`` is below `ALPHA`, else None.
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
        protocol: Name of the protocol.
        protocol_hash: Its SHA-256.
        test_set: Name of the test set.
        subjects: Who was scored.
        metrics: Metric to its comparison.
        notes: What a reader must know, one line each.
    """

    first: str
    second: str
    protocol: str
    protocol_hash: str
    test_set: str
    subjects: tuple[str, ...]
    metrics: Mapping[str, MetricComparison]
    notes: tuple[str, ...]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON; a reader sees the old file or the new one, never half of one."""
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, allow_nan=False)
        write_text(path, text + "\n")


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
    tests: dict[str, PairedTest] = {}
    pairs: dict[str, dict[str, np.ndarray]] = {}
    tables = {s: [r.per_image.by_image(s) for r in (first, second)] for s in first.subjects}
    ids = {subject: both[0][0] for subject, both in tables.items()}
    for name in names:
        pairs[name] = {s: np.stack([means[name] for _, means in tables[s]]) for s in ids}
        gaps = {subject: pair[0] - pair[1] for subject, pair in pairs[name].items()}
        try:
            tests[name] = sign_flip_test(gaps, ids, n_permutations=n_permutations, seed=seed)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    adjusted = holm({name: test.p for name, test in tests.items()})
    weights = draw_weights(ids, n_bootstrap, seed)
    metrics = {
        name: _metric(first, second, name, pairs[name], weights, tests[name], adjusted[name])
        for name in names
    }
    return Comparison(
        first.method,
        second.method,
        first.protocol.name,
        first.protocol.hash,
        first.test_set.name,
        first.subjects,
        metrics,
        _notes(first, second, max(test.smallest for test in tests.values())),
    )


def _metric(
    first: Result,
    second: Result,
    name: str,
    pairs: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    test: PairedTest,
    p_holm: float,
) -> MetricComparison:
    gaps = {subject: pair[0] - pair[1] for subject, pair in pairs.items()}
    means = np.mean([pair.mean(1) for pair in pairs.values()], axis=0)
    draws = [bootstrap_mean(gap, weights[subject]) for subject, gap in gaps.items()]
    higher = first.metrics[name].higher_is_better
    ahead = "first" if (test.difference > 0) == higher else "second"
    return MetricComparison(
        float(means[0]),
        float(means[1]),
        test.difference,
        *percentile_interval(draws),
        test.p,
        p_holm,
        subject_test([gap.mean() for gap in gaps.values()]).p,
        higher,
        ahead if p_holm < ALPHA else None,
    )


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
    for subject in first.subjects:
        one, other = (result.per_image.by_image(subject)[0] for result in (first, second))
        if not np.array_equal(one, other):
            raise ValueError(f"{subject}: expected the same images in both results")


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
