"""What an experiment found, as one page, one JSON file and a manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure as Plot

from brainit.experiments.image_scores import CHANCE, Difference, Estimate, corrected
from brainit.profile import dump_profile
from brainit.run_folder import RunFolder, write_text
from brainit_eval.report import (
    Figure,
    Headline,
    Report,
    ScoreRow,
    ScoreTable,
    SettingsBlock,
    write_report,
)

METHODS = {
    "fused": "Brain-IT, fused",
    "semantic": "semantic branch alone",
    "coarse": "low-level branch alone",
    "ridge": "ridge, fused",
    "recovered": "control: true CLIP tokens, no brain",
    "shuffled": "control: shuffled fMRI",
}
_CONTROLS = ("recovered", "shuffled")


@dataclass(frozen=True)
class Findings:
    """What an experiment found.

    Attributes:
        title: Of the page.
        question: What was asked, and of which data.
        runs: Label -> run that was compared.
        headline: Up to five numbers.
        tables: Score tables.
        figures: Plots.
        tests: What is compared -> paired difference.
        estimates: Other values with intervals.
        sentences: What came out, also where it disagrees with the paper.
        limits: What it does not show.
        numbers: JSON values that stand nowhere else.
    """

    title: str
    question: str
    runs: Mapping[str, RunFolder]
    headline: Sequence[Headline] = ()
    tables: Sequence[ScoreTable] = ()
    figures: Sequence[Figure] = ()
    tests: Mapping[str, Difference] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    sentences: Sequence[str] = ()
    limits: Sequence[str] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)


def write(findings: Findings, name: str, base: RunFolder, out: Path) -> Path:
    """Write report.html, results.json and manifest.json.

    Args:
        findings: What was found.
        name: The experiment's.
        base: The run it started from.
        out: Folder.

    Returns:
        The page.
    """
    holm = corrected(findings.tests)
    results = {
        "experiment": name,
        "sentences": list(findings.sentences),
        "tests": {k: asdict(test) | {"p_holm": holm[k]} for k, test in findings.tests.items()},
        "estimates": findings.estimates,
        "tables": {table.title: table.rows for table in findings.tables},
        "numbers": findings.numbers,
    }
    manifest = {
        "experiment": name,
        "base": str(base.path.resolve()),
        "runs": {label: str(run.path.resolve()) for label, run in findings.runs.items()},
        "fingerprints": {
            label: run.manifest["stages"].get("evaluate", {}).get("fingerprint")
            for label, run in findings.runs.items()
        },
        **{key: base.manifest[key] for key in ("seed", "git_commit", "versions")},
    }
    out.mkdir(parents=True, exist_ok=True)
    page = write_report(out / "report.html", _report(findings, base, holm))
    write_text(out / "results.json", json.dumps(results, indent=1, default=_plain) + "\n")
    write_text(out / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    plt.close("all")
    return page


def _report(findings: Findings, base: RunFolder, holm: Mapping[str, float]) -> Report:
    tests = {
        name: f"{test}; Holm {holm[name]:.2g}; over subjects p = {test.p_subjects:.2g}"
        for name, test in findings.tests.items()
    }
    blocks = [
        SettingsBlock("Paired differences, 95 % intervals over images", tests),
        SettingsBlock(
            "Values, 95 % intervals over images", {k: str(v) for k, v in findings.estimates.items()}
        ),
        SettingsBlock("Runs", {label: run.path for label, run in findings.runs.items()}),
        SettingsBlock("Profile of the base", text=dump_profile(base.profile)),
    ]
    limits = list(findings.limits)
    if base.profile.simulation is not None:
        limits.append("The scans are simulated, the models tiny: nothing here is about brains.")
    return Report(
        title=findings.title,
        subtitle=" ".join([findings.question, *findings.sentences]),
        headline=findings.headline,
        tables=findings.tables,
        figures=findings.figures,
        settings=[block for block in blocks if block.text or block.values],
        limits=limits,
    )


def score_table(
    rows: Mapping[str, tuple[RunFolder, str]], title: str = "Scores", caption: str = ""
) -> ScoreTable:
    """A row for each method of a run, from its scores.json.

    Args:
        rows: Label -> run and method.
        title: Heading.
        caption: What the numbers are over.
    """
    found = []
    for label, (run, method) in rows.items():
        scores = json.loads(run.output("evaluate", "scores").read_text())[method]
        found.append(ScoreRow(label, scores, control=method in _CONTROLS))
    return ScoreTable(found, title=title, caption=caption)


def headline(label: str, estimate: Estimate, note: str = "") -> Headline:
    """A share or score in per cent, with its interval in small print."""
    interval = f"95 %: {estimate.low:.1%} to {estimate.high:.1%}"
    return Headline(label, f"{estimate.value:.1%}", f"{interval}; {note}" if note else interval)


def identification(
    series: Mapping[str, Mapping[str, Mapping[str, Estimate]]], caption: str
) -> list[Figure]:
    """A plot of two-way identification by each kind of feature.

    Args:
        series: Features, in words -> series -> name along the axis -> value.
        caption: What stands along the axis; what the line is, is added.
    """
    return [
        Figure(
            features[0].upper() + features[1:],
            f"{caption}; the line is chance.",
            dots(values, f"two-way, {features}", CHANCE),
        )
        for features, values in series.items()
    ]


def dots(
    series: Mapping[str, Mapping[str, Estimate]], ylabel: str, chance: float | None = None
) -> Plot:
    """Values with intervals: a group of dots for each name along the axis, a colour a series.

    Args:
        series: Series -> name along the axis -> value.
        ylabel: Of the values.
        chance: Where a line is drawn; at 0 for differences.
    """
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    figure, axes = plt.subplots(figsize=(max(4.5, 1.1 * len(names)), 4), layout="constrained")
    for number, (label, values) in enumerate(series.items()):
        x = np.array([names.index(name) for name in values], float)
        x += 0.12 * (number - (len(series) - 1) / 2)
        y = np.array([v.value for v in values.values()])
        ends = np.array([(v.value - v.low, v.high - v.value) for v in values.values()]).T
        axes.errorbar(x, y, np.maximum(ends, 0), fmt="o", capsize=3, label=label)
    if chance is not None:
        axes.axhline(chance, color="0.5", lw=1, ls="--")
    axes.set_xticks(range(len(names)), names, rotation=20 if len(names) > 4 else 0)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False)
    return figure


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)
