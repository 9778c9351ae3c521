"""Final images: unCLIP from predicted tokens, alone and started from the coarse image."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from brainit.models import resolve
from brainit.profile import Image
from brainit.run_folder import RunFolder
from brainit.stages import decoding, test_set
from brainit.stages.images_io import as_float, as_uint8, read_arrays, write_arrays
from brainit_diffusion.unclip import UnCLIP

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def run(run: RunFolder, fingerprint: str) -> dict[str, Path]:
    """Write reconstructions.h5: what was seen and every reconstruction of it."""
    unclip = UnCLIP.load(resolve(run.profile.models.unclip))
    model = decoding.load(run.output("semantic", "model"))
    coarse = read_arrays(run.output("coarse", "coarse"))
    ridge = read_arrays(run.output("baseline", "ridge"))
    arrays = {}
    for name, trial in test_set.load(run).items():
        seeds = [run.profile.seed + int(image) for image in trial.image_id]
        with torch.inference_mode():
            tokens = model(trial.activations, name).features
        size = tuple(trial.images.shape[1:3])
        ridge_coarse = functional.interpolate(
            torch.from_numpy(ridge[name]["coarse"]), size, mode="bicubic", antialias=True
        ).clamp(0, 1)
        low_level = as_float(coarse[name]["coarse"])
        ridge_tokens = torch.from_numpy(ridge[name]["tokens"])
        made = {
            "semantic": _sample(unclip, run.profile.image, tokens, None, seeds),
            "fused": _sample(unclip, run.profile.image, tokens, low_level, seeds),
            "ridge": _sample(unclip, run.profile.image, ridge_tokens, ridge_coarse, seeds),
            "coarse": low_level,
            "ridge_coarse": ridge_coarse,
        }
        resized = {
            kind: functional.interpolate(m, size, mode="bicubic", antialias=True)
            for kind, m in made.items()
        }
        arrays[name] = {"image_id": trial.image_id, "seen": trial.images}
        arrays[name] |= {kind: as_uint8(image) for kind, image in resized.items()}
    return {"reconstructions": write_arrays(run.path / "reconstructions.h5", arrays)}


def _sample(
    unclip: UnCLIP, settings: Image, tokens: Tensor, coarse: Tensor | None, seeds: list[int]
) -> Tensor:
    return unclip.generate(
        tokens,
        coarse=coarse,
        start_step=settings.fused_start_step if coarse is not None else 0,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        noise_offset=settings.noise_offset,
        contrast=settings.contrast,
        seeds=seeds,
        batch_size=settings.batch_size,
        dtype=PRECISIONS[settings.precision],
    )
