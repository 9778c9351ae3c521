"""Final images: unCLIP from predicted tokens, alone and started from the coarse image."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch.nn import functional

from brainit.computing import PRECISIONS, device
from brainit.models import resolve
from brainit.profile import Profile
from brainit.run_folder import RunFolder
from brainit.stages import test_set
from brainit.stages.images_io import as_float, as_uint8, read_arrays, write_arrays
from brainit.stages.semantic import SemanticDecoder, load_clip
from brainit_diffusion.fusion import Refiner, fuse
from brainit_diffusion.refine import lazy_refiner
from brainit_diffusion.unclip import UnCLIP


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write reconstructions.h5: what was seen and every reconstruction of it."""
    unclip = UnCLIP.load(resolve(run.profile.models.unclip)).to(device())
    decoder = SemanticDecoder.load(run)
    clip = load_clip(run)
    coarse = read_arrays(run.output("coarse", "coarse"))
    ridge = read_arrays(run.output("baseline", "ridge"))
    options, fusing = _options(run.profile), _fusing(run.profile)
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, trial in test_set.load(run).items():
        options["seeds"] = [run.profile.seed + int(image) for image in trial.image_id]
        size = tuple(trial.images.shape[1:3])
        resized = partial(functional.interpolate, size=size, mode="bicubic", antialias=True)
        tokens = decoder.predict(trial.activations, name)
        ridge_tokens, ridge_coarse = (
            torch.from_numpy(ridge[name][kind]) for kind in ("tokens", "coarse")
        )
        made = {
            "coarse": as_float(coarse[name]["coarse"]),
            "ridge_coarse": resized(ridge_coarse).clamp(0, 1),
            "semantic": unclip.generate(tokens, **options),
        }
        made["fused"] = fuse(unclip, tokens, made["coarse"], **options, **fusing).images
        made["ridge"] = fuse(unclip, ridge_tokens, made["ridge_coarse"], **options, **fusing).images
        # A control: what the generator makes of the true tokens bounds what any decoder can reach.
        true = clip.encode(as_float(trial.images))
        made["recovered"] = unclip.generate(true, **options)
        arrays[name] = {"image_id": trial.image_id, "seen": trial.images}
        arrays[name] |= {kind: as_uint8(resized(images)) for kind, images in made.items()}
    return {"reconstructions": write_arrays(run.path / "reconstructions.h5", arrays)}


def _options(profile: Profile) -> dict[str, Any]:
    settings = profile.image
    return {
        "steps": settings.steps,
        "guidance_scale": settings.guidance_scale,
        "noise_offset": settings.noise_offset,
        "contrast": settings.contrast,
        "batch_size": settings.batch_size,
        "dtype": PRECISIONS[settings.precision],
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
