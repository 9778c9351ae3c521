"""One step of the paper-size UNet in bfloat16: does it run, how fast, in how much memory?

``hatch run bench unclip-full`` runs the same path with a small UNet and only tells what the paper's
would take; ``--run`` builds that one (2.5 billion random weights, 5 GiB) with SDXL's VAE, and makes
an image of a coarse image and random tokens by the last of 38 guided Euler steps. Weights are drawn
in bfloat16 in place: no float32 copy is ever made. The gate is a finite image within ``--limit``
GiB: of the process's memory, or of the GPU's with ``--device cuda``.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from brainit_diffusion import BrainITPipeline, euler_scheduler
from brainit_diffusion.unet import sdxl_vae_config, unclip_unet_config

SMALL: dict[str, Any] = {
    "block_out_channels": (32, 64, 64),
    "transformer_layers_per_block": (1, 1, 1),
    "attention_head_dim": (1, 1, 1),
}


def random_model(kind: Any, config: dict[str, Any], device: str) -> Any:
    """A model with small random weights, made in bfloat16 where they stay."""
    with torch.device("meta"):
        model = kind(**config)
    model = model.bfloat16().to_empty(device=device).eval().requires_grad_(False)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if name == "bias":
                weight.zero_()
            elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
                weight.fill_(1)
            else:
                weight.normal_(std=weight[0].numel() ** -0.5)
    return model


def peak_gib(device: str) -> float:
    """Most memory so far, of the process or of the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="build the paper's size")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    parser.add_argument("--limit", type=float, default=20.0, help="GiB, default 20")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with torch.device("meta"):
        paper = UNet2DConditionModel(**unclip_unet_config())
    count = sum(weight.numel() for weight in paper.parameters())
    print(f"paper size: {count / 1e9:.2f} billion weights, {2 * count / 2**30:.1f} GiB in bfloat16")
    begin = time.perf_counter()
    unet = random_model(
        UNet2DConditionModel,
        unclip_unet_config() | ({} if chosen.run else SMALL),
        chosen.device,
    )
    vae = random_model(AutoencoderKL, sdxl_vae_config(), chosen.device)
    pipeline = BrainITPipeline(vae, unet, euler_scheduler(), original_size=(768, 768))
    pipeline.set_progress_bar_config(disable=True)
    built, seconds = time.perf_counter(), {}
    seconds["build"] = built - begin
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 256, 1664, generator=generator)
    coarse = torch.rand(1, 3, 256, 256, generator=generator)
    image = pipeline(tokens, coarse, 37, 38, generator=generator, output_type="pt").images
    finite = bool(image.isfinite().all()) and image.shape == (1, 3, 256, 256)
    seconds["image"] = time.perf_counter() - built
    passed = finite and peak_gib(chosen.device) <= chosen.limit
    result = {
        "name": "unclip_full",
        "gate": "passed" if passed else "failed",
        "weights": sum(weight.numel() for weight in unet.parameters()),
        "peak_gib": round(peak_gib(chosen.device), 2),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "settings": vars(chosen),
    }
    print(json.dumps(result))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
