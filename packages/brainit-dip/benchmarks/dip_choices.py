"""Candidates for the presets on photographs other than those that ``bench dip`` scores.

Prints one line per candidate as soon as it is known, the published settings first:
``hatch run bench dip-choices [--device cuda] [--networks random]``. A candidate is a name and what
it changes of the published settings; ``--only`` picks those whose name holds a word. No gate: it
chooses, and ``bench dip`` judges.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from _networks import KINDS, network
from _pictures import TEST, TUNING, photos, write_leaves
from _scores import SCORES, scores, seconds
from torch import Tensor

from brainit_dip import InversionConfig, SkipConfig, VGGFeatures, corrupt, invert
from brainit_dip.image_folder import list_images, read_image

LEAN = {"precision": "bfloat16", "channels_last": True, "cuda_graph": True}
NARROW = SkipConfig(32, (64,) * 3, (64,) * 3, (2,) * 3)
MORE_SKIP = SkipConfig(32, (128,) * 3, (128,) * 3, (4,) * 3)


def candidates() -> dict[str, dict[str, object]]:
    """Changes to the published settings, by name."""
    found: dict[str, dict[str, object]] = {"reference": {}, "reference, bf16": dict(LEAN)}
    for place, size in (("large", 224), ("small", None)):
        for steps in (300, 500, 800):
            for lr in (1e-3, 2e-3, 4e-3):
                change = {"image_size": size, "steps": steps, "lr": lr, "schedule": "cosine"}
                found[f"{place}, {steps} steps, lr {lr:g}"] = {**LEAN, **change}
        best = {**LEAN, "image_size": size, "steps": 500, "lr": 2e-3, "schedule": "cosine"}
        found[f"{place}, decay 0.95"] = {**best, "average_decay": 0.95}
        found[f"{place}, jitter 0.01"] = {**best, "jitter": 0.01}
        found[f"{place}, no jitter"] = {**best, "jitter": 0.0}
        found[f"{place}, 64 channels"] = {**best, "network": NARROW}
        found[f"{place}, 4 skip channels"] = {**best, "network": MORE_SKIP}
        found[f"{place}, constant lr"] = {**best, "schedule": "constant"}
    pixels = {**LEAN, "network": None, "image_size": None, "jitter": 0.0, "steps": 300}
    for weight in (0.03, 0.1, 0.3, 1.0, 3.0):
        tv = {"lr": 0.05, "schedule": "cosine", "total_variation": weight, "average_decay": 0.9}
        found[f"pixels, total variation {weight:g}"] = {**pixels, **tv}
    return found


def timed(
    maps: list[Tensor], vgg: VGGFeatures, config: InversionConfig, device: str
) -> tuple[Tensor, float]:
    """Answers, and the seconds they took after libraries chose their kernels."""
    answers: list[Tensor] = []
    invert(maps, vgg, replace(config, steps=5))
    spent = seconds(lambda: answers.append(invert(maps, vgg, config, 7).images), device)
    return answers[0], spent


def main() -> None:
    """Run the candidates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", default="random,tiny", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--only", default="", help="a word of the names")
    parser.add_argument("--correlations", default="0.38,0.35,0.35,0.38,0.56")
    parser.add_argument("--steps-scale", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    wanted = [float(r) for r in chosen.correlations.split(",")]
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        leaves = write_leaves(Path(scratch), 64, workers=chosen.workers)
        pictures = torch.stack([read_image(file, 112) for file in list_images(leaves)])
    for kind in chosen.networks.split(","):
        vgg = network(kind, pictures).to(chosen.device)
        everything = photos((*TUNING, *TEST), 2 * vgg.image_size).to(chosen.device)
        with torch.no_grad():
            maps = [x[: len(TUNING)] for x in corrupt(vgg(everything), wanted, seed=100)]
        truth = everything[: len(TUNING)].cpu()
        for name, changes in candidates().items():
            if chosen.only not in name:
                continue
            config = InversionConfig(**changes)
            side = 2 * vgg.image_size if config.image_size else None
            steps = max(4, round(config.steps * chosen.steps_scale))
            config = replace(config, image_size=side, steps=steps)
            answers, spent = timed(maps, vgg, config, chosen.device)
            values = scores(answers, truth, vgg, maps).tolist()
            figure = {"seconds": round(spent / len(truth), 3)}
            figure |= {key: round(v, 4) for key, v in zip(SCORES, values, strict=True)}
            found[f"{kind}: {name}"] = figure
            print(f"{kind:<9}{name:<32}{json.dumps(figure)}", flush=True)
    print(json.dumps({"name": "dip-choices", "gate": "passed", "figures": found}))
    sys.exit(0)


if __name__ == "__main__":
    main()
