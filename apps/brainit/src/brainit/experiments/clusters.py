"""Functional clusters against groups of places on the cortex, and how many of them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from brainit.experiments.findings import Findings, headline, identification, score_table
from brainit.experiments.image_scores import COMPARED, Difference, difference, mean, read
from brainit.experiments.runs import changed
from brainit.run_folder import RunFolder

KINDS = ("functional", "anatomical")
FACTORS = (0.25, 1.0, 4.0)
"""Of the base's number of clusters."""


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Train decoders on both kinds of groups, of several numbers."""
    counts = [max(2, round(factor * base.profile.clusters.count)) for factor in FACTORS]
    runs = {
        (kind, count): changed(
            base,
            out / f"{kind}-{count}",
            [f"clusters.kind={kind}", f"clusters.count={count}"],
            console,
        )
        for count in counts
        for kind in KINDS
    }
    scores = {
        features: {key: read(one, metric=metric) for key, one in runs.items()}
        for features, metric in COMPARED.items()
    }
    usual = counts[FACTORS.index(1.0)]
    tests: dict[str, Difference] = {}
    for features, found in scores.items():
        for count in counts:
            tests[f"{count}: functional - anatomical, {features}"] = difference(
                found["functional", count], found["anatomical", count]
            )
        for count in counts:
            if count != usual:
                tests[f"functional: {count} - {usual}, {features}"] = difference(
                    found["functional", count], found["functional", usual]
                )
    series = {
        features: {kind: {str(c): mean(found[kind, c]) for c in counts} for kind in KINDS}
        for features, found in scores.items()
    }
    rows = {f"{kind}, {count}": (one, "fused") for (kind, count), one in runs.items()}
    return Findings(
        title="Functional and anatomical clusters",
        question="Does it matter that clusters are of function, and how many there are?",
        runs={f"{kind}, {count}": one for (kind, count), one in runs.items()},
        headline=[
            headline(f"{kind}, {usual}", series["late features"][kind][str(usual)])
            for kind in KINDS
        ],
        tables=[score_table(rows, caption="Fused images, by kind and number of clusters.")],
        figures=identification(series, "By number of clusters"),
        tests=tests,
        sentences=[f"{name}: {test.verdict}." for name, test in tests.items()],
        limits=[
            "One training of each: its seed's own luck is not in the intervals.",
            "Anatomical clusters are k-means of places on the sphere, as in the paper, "
            "not an atlas.",
        ],
    )
