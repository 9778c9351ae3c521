"""What external images add: with their predicted responses in training, and without."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from brainit.experiments.findings import Findings, headline, identification, score_table
from brainit.experiments.image_scores import COMPARED, difference, mean, read
from brainit.experiments.runs import adapted, changed, without
from brainit.run_folder import RunFolder

DECODERS = ("low_level", "semantic")
MINUTES = 15
FULL, LOW = "all data of all subjects", f"{MINUTES} minutes of a new subject"
RATIOS = {FULL: (0.0, 1.0), LOW: (0.0, 1.0, 3.0)}
"""External samples to one real; the paper adapts with three."""


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Train decoders, and adapt them to the last subject, at several ratios."""
    subject = base.profile.data.subjects[-1]
    start = without(base, out.parent / f"without-subj{subject:02d}", subject, console)
    runs: dict[tuple[str, float], RunFolder] = {}
    for ratio in RATIOS[FULL]:
        runs[FULL, ratio] = changed(base, out / f"full-{ratio:g}", ratios(ratio), console)
    like = None
    for ratio in RATIOS[LOW]:
        few = [*ratios(ratio), f"data.minutes={MINUTES}"]
        like = adapted(start, out / f"low-{ratio:g}", subject, few, console, like)
        runs[LOW, ratio] = like
    scores = {
        features: {key: read(one, metric=metric) for key, one in runs.items()}
        for features, metric in COMPARED.items()
    }
    tests = {
        f"{amount}: {ratio:g} to one - none, {features}": difference(
            found[amount, ratio], found[amount, 0.0]
        )
        for features, found in scores.items()
        for amount, ratios_of in RATIOS.items()
        for ratio in ratios_of[1:]
    }
    series = {
        features: {
            amount: {f"{ratio:g}": mean(found[amount, ratio]) for ratio in ratios_of}
            for amount, ratios_of in RATIOS.items()
        }
        for features, found in scores.items()
    }
    rows = {f"{amount}, {ratio:g} to one": (one, "fused") for (amount, ratio), one in runs.items()}
    return Findings(
        title="With and without external images",
        question="Do responses that the encoder predicts to external images help the decoders?",
        runs={one.path.name: one for one in runs.values()},
        headline=[
            headline(f"{ratio} to one", value, LOW)
            for ratio, value in series["late features"][LOW].items()
        ],
        tables=[score_table(rows, caption="Fused images; external samples to one real sample.")],
        figures=identification(series, "By external samples to one real"),
        tests=tests,
        sentences=[f"{name}: {test.verdict}." for name, test in tests.items()],
        limits=["One training of each: its seed's own luck is not in the intervals."],
    )


def ratios(external_per_real: float) -> list[str]:
    """Settings of both decoders."""
    return [f"{branch}.external_per_real={external_per_real}" for branch in DECODERS]
