"""A new subject from few minutes of scans: adapted, and trained from scratch on the same."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from brainit.experiments.findings import Findings, headline, identification, score_table
from brainit.experiments.image_scores import (
    COMPARED,
    ImageScores,
    difference,
    mean,
    read,
    repetitions,
    share,
)
from brainit.experiments.runs import adapted, alone, without
from brainit.run_folder import RunFolder

MINUTES = (15, 30, 60, 0)
"""Of the new subject's scans; 0: all."""
DRAWS = 3
"""Random draws of these minutes, each with a training of its own."""


def run(base: RunFolder, out: Path, console: Console) -> Findings:
    """Leave the last subject out of the base, adapt it, and train it alone (first draw only)."""
    subject = base.profile.data.subjects[-1]
    start = without(base, out.parent / f"without-subj{subject:02d}", subject, console)
    runs: dict[tuple[str, int], list[RunFolder]] = {}
    for minutes in MINUTES:
        for draw in range(DRAWS):
            how = overrides(minutes, base.profile.seed + draw)
            folder = out / f"adapted-{amount(minutes)}-{draw}".replace(" ", "")
            found = adapted(start, folder, subject, how, console)
            runs.setdefault(("adapted", minutes), []).append(found)
        folder = out / f"scratch-{amount(minutes)}".replace(" ", "")
        how = overrides(minutes, base.profile.seed)
        runs["scratch", minutes] = [alone(base, folder, subject, how, console)]
    scores = {
        features: {
            key: repetitions([read(one, metric=metric) for one in ones])
            for key, ones in runs.items()
        }
        for features, metric in COMPARED.items()
    }
    return findings(runs, scores, f"subj{subject:02d}")


def overrides(minutes: float, seed: int) -> list[str]:
    """Settings that draw so many minutes at random; the seed is that of the training, too."""
    return [f"data.minutes={minutes}", "data.draw=random", f"seed={seed}"]


def amount(minutes: float) -> str:
    """For reading: "15 min" or "all"."""
    return f"{minutes:g} min" if minutes else "all"


def findings(
    runs: dict[tuple[str, int], list[RunFolder]],
    scores: dict[str, dict[tuple[str, int], ImageScores]],
    subject: str,
) -> Findings:
    """What the scores of both kinds say, by minutes.

    Args:
        runs: ("adapted" or "scratch", minutes) -> runs.
        scores: Features, in words -> the same -> scores of their fused images.
        subject: Who is new.
    """
    shares = {
        f"{amount(m)}, share of all data above chance, {features}": share(
            found["adapted", m], found["adapted", 0]
        )
        for features, found in scores.items()
        for m in MINUTES
        if m
    }
    tests = {
        f"{amount(m)}: adapted - from scratch, {features}": difference(
            found["adapted", m], found["scratch", m]
        )
        for features, found in scores.items()
        for m in MINUTES
    }
    series = {
        features: {
            kind: {amount(m): mean(found[kind, m]) for m in MINUTES}
            for kind in ("adapted", "scratch")
        }
        for features, found in scores.items()
    }
    rows = {f"{kind}, {amount(m)}": (ones[0], "fused") for (kind, m), ones in runs.items()}
    said = [f"{name}: {value}." for name, value in shares.items()]
    said += [f"{name}: {test.verdict}." for name, test in tests.items()]
    return Findings(
        title="A new subject by minutes of scans",
        question=f"How much of its scans does {subject} need in models that others trained?",
        runs={run.path.name: run for ones in runs.values() for run in ones},
        headline=[headline(name, value) for name, value in list(shares.items())[:3]],
        tables=[score_table(rows, caption=f"Fused images of {subject}; the first draw of each.")],
        figures=identification(series, f"By minutes, means over {DRAWS} draws (from scratch: one)"),
        tests=tests,
        estimates=shares,
        sentences=said,
        limits=["One subject is new: see the experiment left-out for the others."],
    )
