"""What external images add: with their predicted responses in training, and without."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from brainit.experiments.findings import Findings, dots, headline, score_table
from brainit.experiments.image_scores import CHANCE, difference, mean, read
from brainit.experiments.runs import changed
from brainit.run_folder import RunFolder
from brainit_eval.report import Figure

LOW_TRIALS = 225
"""Trials a subject in the low-data setting: 15 minutes of NSD, a trial every four seconds."""
RATIOS = (0.0, 0.1, 1.0)
"""External samples to one real."""


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Train decoders at several ratios of external images, on all data and on little."""
    amounts = {"all data": [], "15 minutes": [f"data.trials={LOW_TRIALS}"]}
    runs = {}
    for amount, overrides in amounts.items():
        start = base
        for ratio in RATIOS:
            folder = out / f"{amount.replace(' ', '_')}-{ratio:g}"
            ratios = [f"{b}.external_per_real={ratio}" for b in ("low_level", "semantic")]
            # What comes before the decoders is the same for all ratios.
            start = changed(start, folder, [*overrides, *ratios], console)
            runs[amount, ratio] = start
    scores = {key: read(one) for key, one in runs.items()}
    tests = {
        f"{amount}: {ratio:g} to one - none": difference(scores[amount, ratio], scores[amount, 0.0])
        for amount in amounts
        for ratio in RATIOS[1:]
    }
    series = {
        amount: {f"{ratio:g}": mean(scores[amount, ratio]) for ratio in RATIOS}
        for amount in amounts
    }
    rows = {f"{amount}, {ratio:g} to one": (one, "fused") for (amount, ratio), one in runs.items()}
    return Findings(
        title="With and without external images",
        question="Do responses that the encoder predicts to external images help the decoders?",
        runs={f"{amount}, {ratio:g}": one for (amount, ratio), one in runs.items()},
        headline=[
            headline(f"{amount}, {ratio:g} to one", mean(scores[amount, ratio]))
            for amount in amounts
            for ratio in (0.0, 1.0)
        ],
        tables=[score_table(rows, caption="Fused images; external samples to one real sample.")],
        figures=[
            Figure(
                "Late features",
                "By external samples to one real; the line is chance.",
                dots(series, "two-way, late features", CHANCE),
            )
        ],
        tests=tests,
        sentences=[f"{name}: {test.verdict}." for name, test in tests.items()],
        limits=["One training of each: its seed's own luck is not in the intervals."],
    )
