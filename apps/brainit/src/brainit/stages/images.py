"""Final images: unCLIP from predicted tokens, alone and started from the coarse image."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from brainit.computing import computing_type, device
from brainit.profile import Profile
from brainit.run_folder import RunFolder
from brainit.stages import coarse, joint
from brainit.stages.images_io import as_float, read_arrays, write_arrays
from brainit.stages.pictures import Pictures
from brainit.stages.scans import Scans, batches
from brainit.stages.scans import load as load_scans
from brainit.stages.semantic import load_clip
from brainit_diffusion.fusion import Refiner, fuse
from brainit_diffusion.refine import lazy_refiner

KINDS = ("coarse", "ridge_coarse", "semantic", "fused", "ridge", "recovered")
BETWEEN_SAMPLES = 2**20
"""Seeds of the samples of one image are so far apart: more than there are images."""


def run(run: RunFolder, fingerprint: str) -> dict[str, Path] | None:
    """Write reconstructions.h5: what was seen and every reconstruction of it.

    One sample of all scans comes after the other. None while other processes make some of them.
    """
    scans, samples = load_scans(run), range(run.profile.evaluation.samples)
    pictures = Pictures(run.path / "images" / f"images-{fingerprint[:12]}", KINDS)
    todo = [
        (name, part, sample)
        for name, part in batches(run, scans, run.profile.image.batch_size)
        for sample in samples
        if not pictures.have(name, _labels(run, scans[name], part, sample))
    ]
    if todo:
        make = Maker(run, scans)
        for name, part, sample in tqdm(todo, desc="images", leave=False):
            made = make(name, part, sample)
            pictures.write(name, _labels(run, scans[name], part, sample), made)
    labels = {
        name: [label for k in samples for label in _labels(run, own, slice(None), k)]
        for name, own in scans.items()
    }
    if not all(pictures.have(name, every) for name, every in labels.items()):
        return None
    arrays = {name: _arrays(own, len(samples)) for name, own in scans.items()}
    for name, every in labels.items():
        arrays[name] |= {kind: pictures.read(name, kind, every) for kind in KINDS}
    return {"reconstructions": write_arrays(run.path / "reconstructions.h5", arrays)}


def _labels(run: RunFolder, scans: Scans, part: slice, sample: int) -> list[str]:
    return scans.labels(part, sample if run.profile.evaluation.samples > 1 else None)


def _arrays(scans: Scans, samples: int) -> dict[str, NDArray[Any]]:
    """What is known of each row: one sample of all scans after the other."""
    columns = {"image_id": scans.image_id, "seen": scans.images}
    if scans.trial is not None:
        columns["trial"] = scans.trial
    return {name: np.concatenate([values] * samples) for name, values in columns.items()}


class Maker:
    """Every method's images of a batch of scans.

    Args:
        run: Holds the models, the coarse images and the baseline's predictions.
        scans: By subject.
    """

    def __init__(self, run: RunFolder, scans: dict[str, Scans]) -> None:
        (self.decoder, self.unclip), self.clip = joint.load(run), load_clip(run)
        self.coarse = Pictures(coarse.folder_of(run, run.fingerprint_of("coarse")), ("coarse",))
        self.ridge = read_arrays(run.output("baseline", "ridge"))
        self.options, self.fusing = _options(run.profile), _fusing(run.profile)
        self.seed, self.scans = run.profile.seed, scans

    def __call__(self, name: str, part: slice, sample: int) -> dict[str, Tensor]:
        """Images in [0, 1] [n, 3, H, W] of the size of those that were seen, by kind."""
        own, unclip = self.scans[name], self.unclip
        seeds = [self.seed + int(image) + BETWEEN_SAMPLES * sample for image in own.image_id[part]]
        size = tuple(own.images.shape[1:3])
        resized = partial(functional.interpolate, size=size, mode="bicubic", antialias=True)
        tokens = self.decoder.predict(own.activations[part], name)
        ridge = {kind: torch.from_numpy(self.ridge[name][kind][part]) for kind in self.ridge[name]}
        made = {
            "coarse": as_float(self.coarse.read(name, "coarse", own.labels(part))),
            "ridge_coarse": resized(ridge["coarse"]).clamp(0, 1),
            "semantic": unclip.generate(tokens, **self.options, seeds=seeds),
        }
        options = {**self.options, **self.fusing, "seeds": seeds}
        made["fused"] = fuse(unclip, tokens, made["coarse"], **options).images
        made["ridge"] = fuse(unclip, ridge["tokens"], made["ridge_coarse"], **options).images
        # A control: what the generator makes of the true tokens bounds what any decoder can reach.
        true = self.clip.encode(as_float(own.images[part]))
        made["recovered"] = unclip.generate(true, **self.options, seeds=seeds)
        return {kind: resized(images) for kind, images in made.items()}


def _options(profile: Profile) -> dict[str, Any]:
    settings = profile.image
    return {
        "steps": settings.steps,
        "guidance_scale": settings.guidance_scale,
        "noise_offset": settings.noise_offset,
        "contrast": settings.contrast,
        "batch_size": settings.batch_size,
        "dtype": computing_type(settings.precision),
        "progress": True,
    }


def _fusing(profile: Profile) -> dict[str, Any]:
    settings = profile.image
    refiner: Refiner | None = None
    if profile.models.refiner:
        refiner = lazy_refiner(
            profile.models.refiner,
            device=device(),
            steps=settings.refine_steps,
            last_steps=settings.refine_last_steps,
        )
    return {"start_step": settings.fused_start_step, "refiner": refiner}
