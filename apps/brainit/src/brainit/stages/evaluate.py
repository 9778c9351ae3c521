"""Score every method, branch and control, and the encoder against the noise ceiling.

Where an image was reconstructed several times, from single trials or with several seeds, each time
is a repetition with scores of its own; so many count as every image has. A value is then the mean
over repetitions, and its interval draws images and, of each, repetitions.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from brainit.computing import autocast, device
from brainit.run_folder import RunFolder, replacing, write_text
from brainit.stages import encoder as encoder_stage
from brainit.stages.images_io import as_float, read_arrays, write_arrays
from brainit.stages.semantic import load_clip
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.encoder.predict import predict_responses
from brainit_clusters.encoder.score import voxel_correlation
from brainit_eval.features import EfficientNetLite0
from brainit_eval.score import FeatureFunction, Scorer, Scores, named, shuffled
from brainit_eval.statistics import hierarchical_mean
from brainit_eval.statistics.bootstrap import percentile_interval

METHODS = ("coarse", "semantic", "fused", "ridge", "ridge_coarse", "recovered")


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write scores.json, a table with a row per image and method, and the encoder's accuracy."""
    images = read_arrays(run.output("images", "reconstructions"))
    times = repetitions({name: arrays["image_id"] for name, arrays in images.items()})
    truth = _of_kind(images, "seen", times[0])
    ids = {name: images[name]["image_id"][rows] for name, rows in times[0].items()}
    features: list[FeatureFunction] = [
        EfficientNetLite0.load().to(device()),
        named("clip", load_clip(run).embed),
    ]
    draws, seed = run.profile.evaluation.bootstrap, run.profile.seed
    scorer = Scorer(truth, features, image_ids=ids, n_bootstrap=draws, seed=seed)
    scores: dict[str, list[Scores]] = {}
    for method in METHODS:
        for rows in times:
            pictures = _of_kind(images, method, rows)
            values = scorer.features(pictures)
            scores.setdefault(method, []).append(scorer.score(pictures, values))
            if method == "fused":
                false = scorer.score(pictures, values, shuffled(pictures, seed))
                scores.setdefault("shuffled", []).append(false)
    table = {method: _together(results, draws, seed) for method, results in scores.items()}
    write_text(run.path / "scores.json", json.dumps(table, indent=1) + "\n")
    _write_rows(run.path / "per_image.csv", scores)
    accuracy = _encoder_accuracy(run)
    return {
        "scores": run.path / "scores.json",
        "per_image": run.path / "per_image.csv",
        "encoder_accuracy": write_arrays(run.path / "encoder_accuracy.h5", accuracy),
    }


def repetitions(image_id: dict[str, NDArray[np.int64]]) -> list[dict[str, NDArray[np.intp]]]:
    """Rows of each repetition, by subject: each image once, ascending, its rows in turn."""
    order = {name: np.argsort(ids, kind="stable") for name, ids in image_id.items()}
    starts, counts = {}, {}
    for name, ids in image_id.items():
        _, starts[name], counts[name] = np.unique(
            ids[order[name]], return_index=True, return_counts=True
        )
    least = min(int(count.min()) for count in counts.values())
    return [{name: order[name][starts[name] + time] for name in order} for time in range(least)]


def _of_kind(
    images: dict[str, dict[str, np.ndarray]], kind: str, rows: dict[str, NDArray[np.intp]]
) -> dict[str, Tensor]:
    return {name: as_float(arrays[kind][rows[name]]) for name, arrays in images.items()}


def _together(results: list[Scores], draws: int, seed: int) -> dict[str, dict[str, float | bool]]:
    """The table of one method, over all repetitions."""
    first = results[0]
    table = first.as_dict()
    if len(results) == 1:
        return table
    for metric, score in table.items():
        values = {
            name: np.stack([result.per_image[name][metric] for result in results])
            for name in first.image_ids
        }
        samples = hierarchical_mean(
            values, first.image_ids, levels=("images", "samples"), n_bootstrap=draws, seed=seed
        )
        low, high = percentile_interval(samples)
        value = float(np.mean([table.mean() for table in values.values()]))
        score |= {"value": value, "low": low, "high": high}
    return table


def _write_rows(path: Path, scores: dict[str, list[Scores]]) -> None:
    rows = [
        {"method": method, "repetition": time, **row}
        for method, results in scores.items()
        for time, result in enumerate(results)
        for row in result.rows()
    ]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _encoder_accuracy(run: RunFolder) -> dict[str, dict[str, np.ndarray]]:
    """Per voxel the correlation of predicted and measured test responses."""
    encoder = encoder_stage.load(run)
    accuracy: dict[str, dict[str, np.ndarray]] = {}
    with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
        for name in dataset.subjects:
            subject = dataset.subject(name)
            rows = subject.rows("test")
            images = as_float(dataset.images(subject.image_id[rows]))
            with autocast(run.profile.encoder.training.precision):
                predicted = predict_responses(encoder, images, name)
            correlation = voxel_correlation(predicted, subject.betas[rows])
            accuracy[name] = {"correlation": correlation, "noise_ceiling": subject.noise_ceiling}
    return accuracy
