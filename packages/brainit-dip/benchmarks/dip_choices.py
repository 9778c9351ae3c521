"""Candidates for the presets on photographs other than those that ``bench dip`` scores.

Prints one line per candidate as soon as it is known, the published settings first:
``hatch run bench dip-choices [--device cuda] [--networks random]``. A candidate is a name and what
it changes of the published settings; ``--only`` picks names that hold a word.
No gate: it chooses, and ``bench dip`` judges.
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
from _race import race, run

from brainit_dip import InversionConfig, corrupt
from brainit_dip.image_folder import list_images, read_image

LEAN = {"precision": "auto", "channels_last": True, "cuda_graph": True}
PLACES = {"224 px": 224, "112 px": None}


def candidates() -> dict[str, dict[str, object]]:
    """Changes to the published settings, by name; sizes are those with the published VGG."""
    found: dict[str, dict[str, object]] = {"reference": {}, "reference, lean": dict(LEAN)}
    for place, size in PLACES.items():
        at = {**LEAN, "image_size": size, "schedule": "cosine"}
        for steps in (500, 800, 1100):
            for lr in (2e-3, 4e-3):
                found[f"{place}, {steps} steps, lr {lr:g}"] = {**at, "steps": steps, "lr": lr}
        for jitter in (0.0, 0.01):
            for lr in (2e-3, 4e-3):
                name = f"{place}, 800 steps, lr {lr:g}, jitter {jitter:g}"
                found[name] = {**at, "steps": 800, "lr": lr, "jitter": jitter}
        decay = {**at, "steps": 800, "lr": 2e-3, "average_decay": 0.95}
        found[f"{place}, 800 steps, lr 0.002, decay 0.95"] = decay
    pixels = {**LEAN, "network": None, "image_size": None, "jitter": 0.0, "steps": 300}
    for weight in (0.03, 0.1, 0.3, 1.0):
        tv = {"lr": 0.05, "schedule": "cosine", "total_variation": weight, "average_decay": 0.9}
        found[f"pixels, total variation {weight:g}"] = {**pixels, **tv}
    return found


def main() -> None:
    """Run the candidates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", default="random,tiny", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--only", default="", help="a word of the names")
    parser.add_argument("--correlations", default="0.38,0.35,0.35,0.38,0.56")
    parser.add_argument("--steps-scale", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each photograph")
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
            some = [x[: len(TUNING)] for x in corrupt(vgg(everything), wanted, seed=100)]
        maps = [x.repeat(chosen.seeds, 1, 1, 1) for x in some]
        truth = everything[: len(TUNING)].repeat(chosen.seeds, 1, 1, 1).cpu()
        reference: dict[str, object] = {}
        for name, changes in candidates().items():
            if reference and chosen.only not in name:
                continue
            config = InversionConfig(**changes)
            side = 2 * vgg.image_size if config.image_size else None
            steps = max(4, round(config.steps * chosen.steps_scale))
            config = replace(config, image_size=side, steps=steps)
            figures, _ = run(maps, truth, vgg, config, timed=1)
            reference = reference or figures
            figures["race"] = race(reference, figures)
            found[f"{kind}: {name}"] = figures
            shown = {key: value for key, value in figures.items() if key != "curve"}
            print(f"{kind:<9}{name:<40}{json.dumps(shown)}", flush=True)
    print(json.dumps({"name": "dip-choices", "gate": "passed", "figures": found}))
    sys.exit(0)


if __name__ == "__main__":
    main()
