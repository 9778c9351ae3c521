"""Responses of all voxels of the encoder against the form that takes one image at a time.

Correctness first, then both forms in turn at the paper's sizes, and one line of JSON last:
``hatch run bench predict``. The backbone's tokens are taken as given: what is timed is all that
follows them, from the first layer norm to the responses. The baseline is the definition written
out (queries, keys with positions, softmax, MLP, readout), one image after the other, in blocks of
5,000 voxels; "prepared" is kinder: queries and readout weights are computed once beforehand.

Times are medians of rounds in which the forms take turns, of wall time or (``--clock cpu``) of the
process's CPU time, for machines that others use too. "speedup_bf16" is over the baseline in
float32, as the definition is used; the line also has it over the baseline in bfloat16.
"machine_share" is the rate of the products that the folded form needs over this machine's rate at
products of 2048 x 2048 matrices, in the same precision and round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from brainit_clusters.encoder import BrainEncoder, EncoderConfig
from brainit_clusters.encoder.backbone import Backbone
from brainit_clusters.encoder.predict import read_voxels
from brainit_clusters.encoder.tap import Tap

BASELINE_BLOCK = 5000  # voxels that an image meets in training
SUBJECT = "all"
SQUARE = 2048
N_TOKENS, WIDTH = 257, 1024  # of DINOv2 ViT-L/14 at 224 pixels


class Prepared(NamedTuple):
    """What the definition needs of each voxel, once: a query a tap and readout weights."""

    queries: list[Tensor]
    weights: Tensor


def problem(n_voxels: int, n_images: int, width: int = WIDTH) -> tuple[BrainEncoder, list[Tensor]]:
    """An encoder of the paper's sizes without its backbone, and random tokens [n, T, width]."""
    config = EncoderConfig()
    blocks = [nn.Identity()] * config.taps[-1]
    sizes = {"width": width, "image_size": 224, "n_patches": N_TOKENS - 1}
    torch.manual_seed(0)
    backbone = Backbone("none", nn.Identity(), lambda images: images, blocks, **sizes)
    encoder = BrainEncoder(config, backbone).eval()
    encoder.add_subject(SUBJECT, n_voxels)
    encoder.voxels[SUBJECT].data *= 300  # so that attention is far from uniform
    return encoder, [torch.randn(n_images, N_TOKENS, width) for _ in config.taps]


def prepare(encoder: BrainEncoder, voxels: slice) -> Prepared:
    """Queries and readout weights of some voxels."""
    embedding = encoder.voxel_embedding(SUBJECT)[voxels]
    queries = [tap.query(embedding) for tap in encoder.taps if isinstance(tap, Tap)]
    return Prepared(queries, embedding @ encoder.readout_weight)


def plain_image(encoder: BrainEncoder, values: list[Tensor], voxels: Prepared) -> Tensor:
    """The definition for one image: values [T, C] a tap to responses [V]."""
    parts = []
    for tap, value, query in zip(encoder.taps, values, voxels.queries, strict=True):
        assert isinstance(tap, Tap)
        keys = tap.key(value) + encoder.position
        attended = tap.norm((query @ keys.T).softmax(dim=1).to(value.dtype) @ value)
        parts.append(attended + tap.fc2(F.gelu(tap.fc1(attended))))
    return (torch.cat(parts, dim=1) * voxels.weights).sum(dim=1)


def baseline(
    encoder: BrainEncoder, tokens: list[Tensor], prepared: list[Prepared] | None = None
) -> Tensor:
    """Responses [n, V], an image and a block of voxels at a time."""
    blocks = voxel_blocks(len(encoder.voxel_embedding(SUBJECT)))
    images = []
    for image in zip(*tokens, strict=True):
        values = encoder.values(list(image))
        ready = prepared or (prepare(encoder, block) for block in blocks)
        images.append(torch.cat([plain_image(encoder, values, voxels) for voxels in ready]))
    return torch.stack(images)


def voxel_blocks(n_voxels: int) -> list[slice]:
    """Blocks of voxels of the baseline."""
    return [slice(first, first + BASELINE_BLOCK) for first in range(0, n_voxels, BASELINE_BLOCK)]


def ours(encoder: BrainEncoder, tokens: list[Tensor]) -> Tensor:
    """Responses [n, V] as the package computes them."""
    return read_voxels(encoder, encoder.values(tokens), SUBJECT)


def autocast(precision: str) -> torch.autocast:
    """Autocast in bfloat16, or nothing."""
    return torch.autocast("cpu", torch.bfloat16, precision == "bf16")


@torch.inference_mode()
def check() -> dict[str, tuple[float, float]]:
    """Errors and tolerances against the definition in float64, in standard deviations."""
    encoder, tokens = problem(1500, 3, width=64)
    doubles = [part.double() for part in tokens]
    truth = baseline(encoder.double(), doubles)

    def error(found: Tensor) -> float:
        return float((found.double() - truth).square().mean().sqrt() / truth.std())

    errors = {"fp64": (error(ours(encoder, doubles)), 1e-12)}
    encoder.float()
    for name in ("fp32", "bf16"):
        with autocast(name):
            allowed = 2 * error(baseline(encoder, tokens))
            errors[f"{name} (at most twice the definition's own)"] = (
                error(ours(encoder, tokens)),
                allowed,
            )
    return errors


def useful_flops(n_voxels: int, n_images: int) -> float:
    """Operations in the products that the folded form needs, for all images."""
    config = EncoderConfig()
    dim, channels, hidden = config.dim, config.channels, config.mlp_ratio * config.channels
    read = 2 * N_TOKENS * channels + channels * hidden
    fold = dim * (dim + channels + N_TOKENS + channels) + channels * hidden
    values = N_TOKENS * WIDTH * channels
    return 2.0 * len(config.taps) * (n_voxels * (n_images * read + fold) + n_images * values)


@torch.inference_mode()
def seconds(chosen: argparse.Namespace) -> dict[str, float]:
    """Median seconds of an image in every form, and of a product of square matrices."""
    encoder, tokens = problem(chosen.voxels, chosen.images)
    few = [part[: chosen.baseline_images] for part in tokens]
    prepared = [prepare(encoder, block) for block in voxel_blocks(chosen.voxels)]
    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    square = torch.randn(SQUARE, SQUARE)
    forms: dict[str, tuple[Callable[[], Any], int]] = {
        "image at a time": (partial(baseline, encoder, few), len(few[0])),
        "prepared": (partial(baseline, encoder, few, prepared), len(few[0])),
        "package": (partial(ours, encoder, tokens), len(tokens[0])),
        "product": (partial(torch.mm, square, square), 1),
    }
    times: dict[str, list[float]] = {}
    for _ in range(chosen.rounds):
        for name in ("fp32", "bf16"):
            for form, (run, count) in forms.items():
                with autocast(name):
                    begin = clock()
                    run()
                    taken = (clock() - begin) / count
                times.setdefault(f"{form}, {name}", []).append(taken)
    return {form: statistics.median(rounds) for form, rounds in times.items()}


def peak_memory(form: Callable[..., Any], n_voxels: int, n_images: int, threads: int) -> float:
    """MiB beyond the encoder and tokens; to be run in a fresh process."""
    torch.set_num_threads(threads)
    encoder, tokens = problem(n_voxels, n_images)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    with torch.inference_mode():
        form(encoder, tokens)
    return max(memory("VmHWM") - before, 1.0)


def memory(field: str) -> float:
    """MiB of this process: VmRSS for what it holds, VmHWM for the most that it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 2**10


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {"voxels": 160_000, "images": 24, "baseline-images": 1, "rounds": 3, "threads": 2}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="default wall")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    errors = check()
    passed = all(error <= allowed for error, allowed in errors.values())
    print("gate", "passed" if passed else "failed")
    for name, (error, allowed) in errors.items():
        print(f"  {name:<45} {error:.1e} (at most {allowed:.1e})")
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        extra = {
            form.__name__: fresh.submit(
                peak_memory, form, chosen.voxels, chosen.baseline_images, chosen.threads
            ).result()
            for form in (baseline, ours)
        }
    found = seconds(chosen)
    flops = useful_flops(chosen.voxels, chosen.images) / chosen.images
    rate, share = {}, {}
    for name in ("fp32", "bf16"):
        rate[name] = flops / found[f"package, {name}"] / 1e9
        share[name] = rate[name] * 1e9 / (2.0 * SQUARE**3 / found[f"product, {name}"])
    print(f"\n{chosen.voxels} voxels, {chosen.clock} time, {chosen.threads} threads")
    print(f"{'':<24}{'s/image':>10}{'images/s':>10}")
    for form, taken in found.items():
        if not form.startswith("product"):
            print(f"{form:<24}{taken:>10.3f}{1 / taken:>10.3f}")
    for name in rate:
        print(f"{name}: {rate[name]:.0f} GFLOP/s, {share[name]:.0%} of the machine's products")
    print(f"extra MiB: image at a time {extra['baseline']:.0f}, package {extra['ours']:.0f}")
    plain = found["image at a time, fp32"]
    result = {
        "name": "predict",
        "gate": "passed" if passed else "failed",
        "speedup": round(plain / found["package, fp32"], 2),
        "speedup_bf16": round(plain / found["package, bf16"], 2),
        "speedup_prepared": round(found["prepared, fp32"] / found["package, fp32"], 2),
        "speedup_bf16_over_bf16": round(found["image at a time, bf16"] / found["package, bf16"], 2),
        "memory_ratio": round(extra["ours"] / extra["baseline"], 3),
        "extra_mib": {form: round(value) for form, value in extra.items()},
        "machine_share": {name: round(value, 3) for name, value in share.items()},
        "gflops": {name: round(value, 1) for name, value in rate.items()},
        "s_per_image": {form: round(taken, 4) for form, taken in found.items()},
        "settings": vars(chosen),
    }
    print(json.dumps(result))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
