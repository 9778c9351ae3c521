"""Functional clusters against groups of places on the cortex, and how many of them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from brainit.experiments.findings import Findings, dots, headline, score_table
from brainit.experiments.image_scores import CHANCE, difference, mean, read
from brainit.experiments.runs import changed
from brainit.run_folder import RunFolder
from brainit_eval.report import Figure

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
    scores = {key: read(one) for key, one in runs.items()}
    tests = {
        f"{count}: functional - anatomical": difference(
            scores["functional", count], scores["anatomical", count]
        )
        for count in counts
    }
    usual = counts[FACTORS.index(1.0)]
    tests |= {
        f"functional: {count} - {usual}": difference(
            scores["functional", count], scores["functional", usual]
        )
        for count in counts
        if count != usual
    }
    series = {kind: {str(c): mean(scores[kind, c]) for c in counts} for kind in KINDS}
    rows = {f"{kind}, {count}": (one, "fused") for (kind, count), one in runs.items()}
    return Findings(
        title="Functional and anatomical clusters",
        question="Does it matter that clusters are of function, and how many there are?",
        runs={f"{kind}, {count}": one for (kind, count), one in runs.items()},
        headline=[headline(f"{kind}, {usual}", series[kind][str(usual)]) for kind in KINDS],
        tables=[score_table(rows, caption="Fused images, by kind and number of clusters.")],
        figures=[
            Figure(
                "Late features",
                "By number of clusters; the line is chance.",
                dots(series, "two-way, late features", CHANCE),
            )
        ],
        tests=tests,
        sentences=[f"{name}: {test.verdict}." for name, test in tests.items()],
        limits=[
            "One training of each: its seed's own luck is not in the intervals.",
            "Anatomical clusters are k-means of places on the sphere, as in the paper, "
            "not an atlas.",
        ],
    )
