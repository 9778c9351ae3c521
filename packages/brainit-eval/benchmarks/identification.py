"""Identification of 1,000 reconstructions by AlexNet's second layer against the forms in use.

Correctness first, then all forms, and one line of JSON last: ``hatch run bench identification``.
The pairwise loop calls ``numpy.corrcoef`` for each pair; it is timed on a part and scaled. The
other form gives ``numpy.corrcoef`` both sets at once, which takes 8 GB: it runs only where so much
is free, once, and last. Ours gives both directions, theirs the correlations alone. The gate: no
comparison of ours differs from one made of correlations in plain float64. Times are wall times or
(``--clock cpu``) the process's CPU times, for machines that others use too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity

from brainit_eval.metrics.identification import Identification, identify

Clock = Callable[[], float]

MARGIN = 1e-12  # a lead below it is a tie, by the package's rule


def problem(n: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Reconstructions and images in features like a network's: few strong directions, rectified."""
    generator = torch.Generator().manual_seed(seed)
    strength = torch.arange(1, 65) ** -0.7
    directions = torch.randn(64, width, generator=generator) * strength[:, None]
    seen = torch.randn(n, 64, generator=generator)
    decoded = 0.5 * seen + torch.randn(n, 64, generator=generator)
    pred, true = (
        torch.randn(n, width, generator=generator).addmm_(codes, directions).relu_()
        for codes in (decoded, seen)
    )
    return pred, true


def plain(pred: Tensor, true: Tensor) -> Tensor:
    """Correlations ``[true image, reconstruction]`` in float64, a thousand features at a time."""
    products, squares = torch.zeros(len(true), len(pred), dtype=torch.float64), []
    means = [values.mean(1, dtype=torch.float64, keepdim=True) for values in (true, pred)]
    for parts in zip(true.split(1000, 1), pred.split(1000, 1), strict=True):
        rows, columns = (part.double() - mean for part, mean in zip(parts, means, strict=True))
        products += rows @ columns.T
        squares.append(torch.stack([rows.square().sum(1), columns.square().sum(1)]))
    lengths = torch.stack(squares).sum(0).sqrt()
    return products / lengths[0, :, None] / lengths[1]


def flipped(found: Identification, correlations: np.ndarray) -> int:
    """Comparisons of both directions that differ from those of the correlations."""
    own = np.diag(correlations)
    return sum(
        int((direction.success != (own - matrix > MARGIN)).sum())
        for direction, matrix in (
            (found.reconstruction_fixed, correlations),
            (found.image_fixed, correlations.T),
        )
    )


def pairwise(pred: Tensor, true: Tensor, pairs: int, clock: Clock) -> float:
    """Seconds of the loop over all pairs, from the first few."""
    a, b = pred.numpy(), true.numpy()
    start = clock()
    for pair in range(pairs):
        np.corrcoef(a[pair % len(a)], b[(7 * pair + 1) % len(b)])
    return (clock() - start) / pairs * len(a) ** 2


def extra_megabytes(step: Callable[[], object]) -> float:
    """Most MB of tensors that a step holds at once beyond what was there before it."""
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = profile.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak * 1e-6


def free() -> float:
    """MB that can be had without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return (
        next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1.024e-3
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {"n": 1000, "width": 184_512, "pairs": 1000, "rounds": 3, "threads": 2, "seed": 0}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="default wall")
    chosen = parser.parse_args()
    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    torch.set_num_threads(chosen.threads)
    pred, true = problem(chosen.n, chosen.width, chosen.seed)
    identify(pred[:, :2000], true[:, :2000])  # libraries are loaded, threads started

    ours, loops = [], []
    for _ in range(chosen.rounds):
        start = clock()
        found = identify(pred, true)
        ours.append(clock() - start)
        loops.append(pairwise(pred, true, chosen.pairs // chosen.rounds, clock))
    extra = extra_megabytes(lambda: identify(pred, true))
    flips = flipped(found, plain(pred, true).numpy())

    both = None
    need = 5.5 * 2 * chosen.n * chosen.width * 8e-6  # its copies, in MB, with some to spare
    if free() > need:
        start = clock()
        matrix = np.corrcoef(true.numpy(), pred.numpy())
        both = clock() - start
        flips += flipped(found, matrix[: chosen.n, chosen.n :])
    seconds, loop = statistics.median(ours), statistics.median(loops)
    print(f"gate {'failed' if flips else 'passed'}: {flips} comparisons differ")
    sizes = f"{chosen.n} pairs of {chosen.width} features"
    print(f"{sizes}, {chosen.threads} threads, {chosen.clock} time")
    print(f"  two-way score                  {found.reconstruction_fixed.value:.4f}")
    print(f"  identify, both directions      {seconds:10.2f} s   {extra:.0f} MB beyond the inputs")
    print(f"  numpy.corrcoef, pair by pair   {loop:10.2f} s   (scaled)")
    text = "not run: too little free memory" if both is None else f"{both:10.2f} s"
    print(f"  numpy.corrcoef of both sets    {text}")
    result = {
        "name": "identification",
        "gate": "failed" if flips else "passed",
        "speedup": round(loop / seconds, 1),
        "speedup_over_corrcoef": None if both is None else round(both / seconds, 2),
        "extra_mb": round(extra),
        "flipped": flips,
        "s": [round(value, 3) for value in ours],
        "settings": vars(chosen),
    }
    print(json.dumps(result))
    sys.exit(flips > 0)


if __name__ == "__main__":
    main()
