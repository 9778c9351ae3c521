"""Coarse images: predicted VGG features, inverted by Deep Image Prior."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm.auto import tqdm

from brainit.computing import device
from brainit.profile import Coarse
from brainit.run_folder import RunFolder
from brainit.stages import decoding
from brainit.stages.low_level import layout_of, load_target
from brainit.stages.pictures import Pictures
from brainit.stages.scans import Scans, batches
from brainit.stages.scans import load as load_scans
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


def run(run: RunFolder, fingerprint: str) -> dict[str, Path] | None:
    """Write a coarse image of each scan; None while other processes make some of them."""
    settings, scans = run.profile.coarse, load_scans(run)
    pictures = Pictures(folder_of(run, fingerprint), ("coarse",))
    todo = [
        (name, part)
        for name, part in batches(run, scans, settings.batch_size)
        if not pictures.have(name, scans[name].labels(part))
    ]
    if todo:
        _make(run, scans, pictures, todo)
    everything = slice(None)
    if not all(pictures.have(name, own.labels(everything)) for name, own in scans.items()):
        return None
    return {"coarse": pictures.folder}


def folder_of(run: RunFolder, fingerprint: str) -> Path:
    """Where coarse images are, or will be."""
    return run.path / "images" / f"coarse-{fingerprint[:12]}"


def _make(
    run: RunFolder,
    scans: dict[str, Scans],
    pictures: Pictures,
    todo: list[tuple[str, slice]],
) -> None:
    settings = run.profile.coarse
    vgg = load_target(run.profile)
    layout = layout_of(vgg)
    model = decoding.load(run, "low_level")
    calibration = LevelCalibration.load(run.output("low_level", "calibration"))
    config = inversion_config(settings, level_weights(settings, calibration, vgg.thumbnail > 0))
    for name, part in tqdm(todo, desc="coarse", leave=False):
        own = scans[name]
        with torch.inference_mode():
            features = calibration(model(own.activations[part].to(device()), name).features)
        maps = [m.clone() for m in layout.unpack(features.clamp(min=0))]
        seeds = [run.profile.seed + int(image) for image in own.image_id[part]]
        images = invert(maps, vgg, config, seeds).images.cpu()
        pictures.write(name, own.labels(part), {"coarse": images})
