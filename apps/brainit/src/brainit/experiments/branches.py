"""What each branch gives alone, and what fusing them adds (Brain-IT, ablation of the branches)."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

from rich.console import Console

from brainit.experiments.findings import METHODS, Findings, dots, headline, score_table
from brainit.experiments.image_scores import CHANCE, LATE, Difference, difference, mean, read
from brainit.run_folder import RunFolder
from brainit.scores import METRICS
from brainit_eval.report import Figure

BRANCHES = ("fused", "semantic", "coarse")
PAPER = {"ssim": ("coarse", "fused", "semantic"), "two_way_clip": ("fused", "semantic", "coarse")}
"""Best first in the paper's table: SSIM 0.505, 0.486, 0.431; CLIP 96.4, 95.2, 85.8 %."""


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Compare the branches of the base, image by image."""
    scores = {(m, b): read(base, b, m) for m in METRICS for b in BRANCHES}
    tests = {
        f"{metric}: {one} - {other}": difference(scores[metric, one], scores[metric, other])
        for metric in METRICS
        for one, other in combinations(BRANCHES, 2)
    }
    late = {METHODS[branch]: mean(scores[LATE, branch]) for branch in BRANCHES}
    by_subject = {
        name: {METHODS[branch]: mean(scores[LATE, branch].only([name])) for branch in BRANCHES}
        for name in scores[LATE, "fused"].values
    }
    return Findings(
        title="Branches alone and fused",
        question="What does each branch give, and what does fusion add to it?",
        runs={"base": base},
        headline=[headline(f"late features, {name}", value) for name, value in late.items()],
        tables=[
            score_table(
                {METHODS[m]: (base, m) for m in (*BRANCHES, "recovered", "shuffled")},
                caption="Test images of the base, means over subjects, 95 % intervals over images.",
            )
        ],
        figures=[
            Figure(
                "Late features by subject",
                "Two-way identification; the line is chance.",
                dots(by_subject, "two-way, late features", CHANCE),
            )
        ],
        tests=tests,
        sentences=[sentence(metric, order, tests) for metric, order in PAPER.items()],
    )


def sentence(metric: str, order: tuple[str, ...], tests: dict[str, Difference]) -> str:
    """Whether branches rank as in the paper, pair by pair along its order.

    Args:
        metric: A metric.
        order: Branches, the paper's best first.
        tests: Differences by "METRIC: ONE - OTHER".
    """
    said = []
    for better, worse in pairwise(order):
        key, sign = f"{metric}: {better} - {worse}", 1
        if key not in tests:
            key, sign = f"{metric}: {worse} - {better}", -1
        gap = tests[key]
        clear = gap.low > 0 or gap.high < 0
        verdict = "as in the paper" if sign * gap.value > 0 else "against the paper"
        said.append(
            f"{better} less {worse} {sign * gap.value:+.3f} "
            f"({verdict if clear else 'unclear: the interval holds 0'})"
        )
    return f"{metric}: {'; '.join(said)}."
