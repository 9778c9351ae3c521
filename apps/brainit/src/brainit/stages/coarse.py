"""Coarse images: predicted VGG features, inverted by Deep Image Prior."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from brainit.computing import device
from brainit.profile import Coarse
from brainit.run_folder import RunFolder
from brainit.stages import decoding, test_set
from brainit.stages.images_io import as_uint8, write_arrays
from brainit.stages.low_level import layout_of, load_target
from brainit_bit import LevelCalibration
from brainit_dip.config import InversionConfig
from brainit_dip.inversion import invert


def inversion_config(
    settings: Coarse, level_weights: tuple[float, ...] | None = None
) -> InversionConfig:
    """A preset with a profile's steps, precision and batch size, and weights of the levels."""
    return InversionConfig.named(
        settings.preset,
        steps=settings.steps,
        precision=settings.precision,
        batch_size=settings.batch_size,
        level_weights=level_weights,
    )


def level_weights(
    settings: Coarse, calibration: LevelCalibration, thumbnail: bool
) -> tuple[float, ...]:
    """Weights of the levels' losses: what each knows, or the same; then the thumbnail's factor."""
    equal = (1.0,) * len(calibration.level_sizes)
    weights = calibration.level_weights() if settings.weigh_levels else equal
    return (*weights[:-1], settings.thumbnail_weight * weights[-1]) if thumbnail else weights


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write coarse.h5: one image per test trial."""
    settings = run.profile.coarse
    vgg = load_target(run.profile)
    layout = layout_of(vgg)
    model = decoding.load(run, "low_level")
    calibration = LevelCalibration.load(run.output("low_level", "calibration"))
    config = inversion_config(settings, level_weights(settings, calibration, vgg.thumbnail > 0))
    trials = test_set.load(run)
    work = [
        (name, start)
        for name, trial in trials.items()
        for start in range(0, len(trial.image_id), settings.batch_size)
    ]
    images: dict[str, list[Tensor]] = {name: [] for name in trials}
    for name, start in tqdm(work, desc="coarse", leave=False):
        part = slice(start, start + settings.batch_size)
        with torch.inference_mode():
            features = calibration(
                model(trials[name].activations[part].to(device()), name).features
            )
        maps = [m.clone() for m in layout.unpack(features.clamp(min=0))]
        seeds = [run.profile.seed + int(image) for image in trials[name].image_id[part]]
        images[name].append(invert(maps, vgg, config, seeds).images.cpu())
    arrays = {name: {"coarse": as_uint8(torch.cat(parts))} for name, parts in images.items()}
    return {"coarse": write_arrays(run.path / "coarse.h5", arrays)}
