"""What a careful lab would do without the transformer: ridge to coarse pixels and CLIP tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch.nn import functional
from tqdm.auto import tqdm

from brainit.run_folder import RunFolder
from brainit.stages import scans
from brainit.stages.images_io import as_float, write_arrays
from brainit.stages.semantic import load_clip
from brainit_clusters.data.dataset import BrainDataset


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write ridge.h5: per scan a coarse image [3, S, S] in [0, 1] and tokens [T, W].

    Validation images are learnt from, unless they are what is reconstructed.
    """
    settings, clip = run.profile.baseline, load_clip(run)
    side = (settings.coarse_size, settings.coarse_size)
    learnt = ("train",) if run.profile.evaluation.split == "val" else ("train", "val")
    arrays = {}
    with BrainDataset.open(run.output("prepare", "dataset")) as dataset:
        for name, own in tqdm(scans.load(run).items(), desc="ridge", leave=False):
            subject = dataset.subject(name)
            rows = np.concatenate([subject.rows(split) for split in learnt])
            images = as_float(dataset.images(subject.image_id[rows]))
            pixels = functional.interpolate(images, side, mode="bilinear", antialias=True)
            targets = {"coarse": pixels, "tokens": clip.encode(images).float()}
            fitted = {}
            for kind, target in targets.items():
                ridge = RidgeCV(alphas=settings.penalties)
                ridge.fit(subject.betas[rows], target.flatten(1).numpy())
                flat = torch.from_numpy(ridge.predict(own.activations.numpy()))
                fitted[kind] = flat.unflatten(1, target.shape[1:]).numpy().astype(np.float32)
            fitted["coarse"] = fitted["coarse"].clip(0, 1)
            arrays[name] = fitted
    return {"ridge": write_arrays(run.path / "ridge.h5", arrays)}
