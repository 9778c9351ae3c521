"""Each subject left out in turn and adapted, against its scores when all were trained together."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from brainit.experiments.findings import Findings, headline, identification, score_table
from brainit.experiments.image_scores import (
    COMPARED,
    Difference,
    Estimate,
    difference,
    mean,
    read,
    share,
    together,
)
from brainit.experiments.runs import adapted, without
from brainit.experiments.transfer import amount
from brainit.run_folder import RunFolder

MINUTES = (15, 0)
"""Of the new subject's scans; 0: all."""


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Train without each tested subject, and adapt to it from its first minutes and from all."""
    runs: dict[int, dict[str, RunFolder]] = {minutes: {} for minutes in MINUTES}
    for subject in base.profile.evaluation.subjects:
        name = f"subj{subject:02d}"
        start = without(base, out.parent / f"without-{name}", subject, console)
        for minutes, found in runs.items():
            folder = out / f"{name}-{amount(minutes)}".replace(" ", "")
            how = [f"data.minutes={minutes}"]
            found[name] = adapted(start, folder, subject, how, console)
    shares: dict[str, Estimate] = {}
    tests: dict[str, Difference] = {}
    series: dict[str, dict[str, dict[str, Estimate]]] = {}
    for features, metric in COMPARED.items():
        joint = read(base, metric=metric)
        scores = {
            amount(minutes): together({n: read(one, metric=metric) for n, one in found.items()})
            for minutes, found in runs.items()
        }
        few, all_of_it = (scores[amount(minutes)] for minutes in MINUTES)
        shares[f"15 minutes, share of all data above chance, {features}"] = share(few, all_of_it)
        shares[f"all data adapted, share of trained together, {features}"] = share(all_of_it, joint)
        tests[f"15 min - all data, both adapted, {features}"] = difference(few, all_of_it)
        tests[f"all data adapted - trained together, {features}"] = difference(all_of_it, joint)
        series[features] = {
            kind: {name: mean(part.only([name])) for name in joint.values}
            | {"all subjects": mean(part)}
            for kind, part in {**scores, "trained together": joint}.items()
        }
    rows = {
        f"{name}, {amount(minutes)}": (one, "fused")
        for minutes, found in runs.items()
        for name, one in found.items()
    }
    return Findings(
        title="Each subject left out",
        question="What do models of the others reach on a subject that they never saw?",
        runs={f"{n}, {amount(m)}": one for m, found in runs.items() for n, one in found.items()}
        | {"trained together": base},
        headline=[headline(name, value) for name, value in shares.items()],
        tables=[
            score_table(rows, caption="Fused images, a subject a row."),
            score_table({"trained together": (base, "fused")}, title="The base, all subjects"),
        ],
        figures=identification(series, "By subject, left out and adapted"),
        tests=tests,
        estimates=shares,
        sentences=[f"{name}: {value}." for name, value in shares.items()]
        + [f"{name}: {test.verdict}." for name, test in tests.items()],
    )
