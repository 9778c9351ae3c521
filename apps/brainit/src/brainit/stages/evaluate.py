"""Score every method, branch and control, and the encoder against the noise ceiling."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from torch import Tensor

from brainit.computing import autocast, device
from brainit.run_folder import RunFolder, replacing, write_text
from brainit.stages import encoder as encoder_stage
from brainit.stages.images_io import as_float, read_arrays, write_arrays
from brainit.stages.semantic import load_clip
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.encoder.predict import predict_responses
from brainit_clusters.encoder.score import voxel_correlation
from brainit_eval.controls.shuffles import shuffled
from brainit_eval.features import EfficientNetLite0
from brainit_eval.pictures.stream import FeatureFunction
from brainit_eval.score import Scorer, Scores, named

METHODS = ("coarse", "semantic", "fused", "ridge", "ridge_coarse", "recovered")


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write scores.json, a table with a row per image and method, and the encoder's accuracy."""
    images = read_arrays(run.output("images", "reconstructions"))
    truth = _of_kind(images, "seen")
    ids = {name: arrays["image_id"] for name, arrays in images.items()}
    features: list[FeatureFunction] = [
        EfficientNetLite0.load().to(device()),
        named("clip", load_clip(run).embed),
    ]
    draws, seed = run.profile.evaluation.bootstrap, run.profile.seed
    scorer = Scorer(truth, features, image_ids=ids, n_bootstrap=draws, seed=seed)
    scores = {}
    for method in METHODS:
        pictures = _of_kind(images, method)
        values = scorer.features(pictures)
        scores[method] = scorer.score(pictures, values)
        if method == "fused":
            scores["shuffled"] = scorer.score(pictures, values, shuffled(pictures, seed))
    table = {method: result.as_dict() for method, result in scores.items()}
    write_text(run.path / "scores.json", json.dumps(table, indent=1) + "\n")
    _write_rows(run.path / "per_image.csv", scores)
    accuracy = _encoder_accuracy(run)
    return {
        "scores": run.path / "scores.json",
        "per_image": run.path / "per_image.csv",
        "encoder_accuracy": write_arrays(run.path / "encoder_accuracy.h5", accuracy),
    }


def _of_kind(images: dict[str, dict[str, np.ndarray]], kind: str) -> dict[str, Tensor]:
    return {name: as_float(arrays[kind]) for name, arrays in images.items()}


def _write_rows(path: Path, scores: dict[str, Scores]) -> None:
    rows = [{"method": method, **row} for method, result in scores.items() for row in result.rows()]
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
