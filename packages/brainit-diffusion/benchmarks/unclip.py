"""Images a minute, and what fewer steps and bfloat16 cost: ``hatch run bench unclip``.

Correctness first: sigmas against the formula, a batch against single images, start steps that come
closer to the coarse image up to the VAE's copy of it. Then every way in turn, from the same start
noise and the same true tokens of pictures, and one line of JSON last.

``--models`` is a folder of ``clip``, ``vae``, ``unet`` and ``scheduler`` (default: the workspace's
tiny models), ``--pictures`` one of image files (default: its sprites on grey, which the tiny models
were not trained on). Scores: two-way identification of the pictures by the pooled embeddings of the
same CLIP (0.5 is chance), and the mean correlation of pixels with the picture, and with 38 Euler
steps in float32. "speedup" is that of the few steps over those 38. ``--clock cpu`` counts the
process's CPU time in place of wall time, for machines that others use too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from brainit_diffusion import ClipTokens, UnCLIP, euler_timesteps, few_step_scheduler

ASSETS = Path(__file__).parents[3] / "apps/brainit/src/brainit/assets"
FULL = "38 Euler steps"


class Way(NamedTuple):
    """One way to sample."""

    scheduler: object
    steps: int
    dtype: torch.dtype


def read_pictures(folder: Path, count: int, size: int) -> Tensor:
    """The first pictures of a folder by name [n, 3, size, size], what is transparent on grey."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    pictures = []
    for file in files[:count]:
        picture = Image.open(file).convert("RGBA")
        grey = Image.new("RGBA", picture.size, (128, 128, 128, 255))
        flat = Image.alpha_composite(grey, picture).convert("RGB").resize((size, size))
        pictures.append(torch.from_numpy(np.asarray(flat).copy()).permute(2, 0, 1) / 255)
    if len(pictures) < 2:
        raise FileNotFoundError(f"{folder}: expected at least two pictures (.png, .jpg)")
    return torch.stack(pictures)


def check(model: UnCLIP, tokens: Tensor, pictures: Tensor) -> dict[str, tuple[float, float]]:
    """Errors beside their tolerances."""
    tokens, coarse = tokens[:2], pictures[:2].flip(3)
    model.generate(tokens[:1], steps=38, start_step=38, coarse=coarse[:1], seeds=[0])
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)[euler_timesteps(38)]
    sigmas = model.pipeline.scheduler.sigmas[:-1].numpy() / np.sqrt((1 - kept) / kept)
    pair = model.generate(tokens, steps=4, seeds=[0, 1])
    alone = model.generate(tokens[1:], steps=4, seeds=[1])
    copy = model.decode(model.encode(coarse))
    gaps = [
        (model.generate(tokens, coarse, start, 8, seeds=[0, 1]) - copy).abs().mean().item()
        for start in range(0, 9, 2)
    ]
    return {
        "sigmas, relative": (float(np.abs(sigmas - 1).max()), 5e-5),
        "batch and single": (float((pair[1] - alone[0]).abs().max()), 1e-3),
        "later starts, largest step away": (float(np.diff(gaps).max()), 0.0),
        "last start and the copy": (gaps[-1], 1e-6),
    }


def correlation(first: Tensor, second: Tensor) -> float:
    """Mean over images of the correlation of their values."""
    pairs = (torch.stack([a.flatten(), b.flatten()]) for a, b in zip(first, second, strict=True))
    return float(np.mean([torch.corrcoef(pair)[0, 1].item() for pair in pairs]))


def two_way(clip: ClipTokens, made: Tensor, pictures: Tensor) -> float:
    """How often an image is nearer to its own picture than to another one."""
    count = len(pictures)
    similar = torch.corrcoef(torch.cat([clip.embed(made), clip.embed(pictures)]))[:count, count:]
    better = similar < similar.diag()[:, None]
    return float(better.sum() / (count * (count - 1)))


def sample_in_turn(
    model: UnCLIP, ways: dict[str, Way], tokens: Tensor, chosen: argparse.Namespace
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Images of each way, and images a minute by its median time."""
    made: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    options = {"guidance_scale": chosen.guidance, "seeds": range(len(tokens))}
    for _ in range(chosen.rounds):
        for name, way in ways.items():
            model.pipeline.scheduler = way.scheduler
            begin = clock()
            made[name] = model.generate(tokens, steps=way.steps, dtype=way.dtype, **options)
            seconds[name].append(clock() - begin)
    return made, {name: 60 * len(tokens) / float(np.median(t)) for name, t in seconds.items()}


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=ASSETS / "models")
    parser.add_argument("--pictures", type=Path, default=ASSETS / "sprites")
    parser.add_argument("--guidance", type=float, default=3.0, help="default 3")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="default wall")
    for name, default in {"images": 32, "few": 10, "rounds": 1, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    model = UnCLIP.load(chosen.models)
    clip = ClipTokens.load(f"local-dir:{chosen.models / 'clip'}")
    pictures = read_pictures(chosen.pictures, chosen.images, model.image_size)
    tokens = clip.encode(pictures)
    errors = check(model, tokens, pictures)
    passed = all(error <= allowed for error, allowed in errors.values())
    print("gate", "passed" if passed else "failed")
    for name, (error, allowed) in errors.items():
        print(f"  {name:<40} {error:.1e} (at most {allowed:.1e})")
    euler = model.pipeline.scheduler
    solver = few_step_scheduler(euler.config.prediction_type)
    few = f"{chosen.few} DPM-Solver++ steps"
    ways = {
        FULL: Way(euler, 38, torch.float32),
        f"{FULL}, bf16": Way(euler, 38, torch.bfloat16),
        f"{chosen.few} Euler steps": Way(euler, chosen.few, torch.float32),
        few: Way(solver, chosen.few, torch.float32),
        f"{few}, bf16": Way(solver, chosen.few, torch.bfloat16),
    }
    made, rates = sample_in_turn(model, ways, tokens, chosen)
    setting = f"guidance {chosen.guidance}, {chosen.threads} threads, {chosen.clock} time"
    print(f"\n{len(tokens)} pictures, {setting}")
    print(f"{'':<32}{'images/min':>12}{'two-way':>10}{'PixCorr':>10}{'as 38 Euler':>13}")
    rows = {}
    for name, images in made.items():
        rows[name] = {
            "images_a_minute": round(rates[name], 2),
            "two_way": round(two_way(clip, images, pictures), 4),
            "pixcorr": round(correlation(images, pictures), 4),
            "as_full": round(correlation(images, made[FULL]), 4),
        }
        rate, identified, *alike = rows[name].values()
        print(f"{name:<32}{rate:>12.1f}{identified:>10.3f}{alike[0]:>10.3f}{alike[1]:>13.4f}")
    result = {
        "name": "unclip",
        "gate": "passed" if passed else "failed",
        "speedup": round(rates[few] / rates[FULL], 2),
        "ways": rows,
        "settings": {name: str(value) for name, value in vars(chosen).items()},
    }
    print(json.dumps(result))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
