"""Cluster attention, forward and backward: the algebraic form against the graph form.

Correctness first, then a table of pairs measured in turn, and one line of JSON last. Run it by
``python packages/brainit-bit/benchmarks/cluster_attention.py``.

Every voxel takes part in the timed steps, because the graph form here computes undrawn voxels too;
the gate runs with and without random draws.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from brainit_bit import draw_voxels
from brainit_bit.ops.cluster_attention import cluster_attention
from brainit_bit.ops.cluster_attention.reference import cluster_attention_reference

Step = Callable[[], list[Tensor]]


def make_steps(options: argparse.Namespace, dtype: torch.dtype) -> tuple[Step, Step]:
    """Forward and backward of either form on one problem with uneven clusters.

    Args:
        options: Sizes; `drawn` None lets every voxel take part once.
        dtype: Of all tensors.

    Returns:
        The algebraic and the graph form's step: output and gradients.
    """
    generator = torch.Generator().manual_seed(options.seed)
    batch, n_voxels, dim, n_clusters = (
        options.batch,
        options.voxels,
        options.dim,
        options.clusters,
    )

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
        return values.to(dtype).requires_grad_()

    shares = torch.rand(n_clusters, generator=generator) ** 2
    labels = shares.multinomial(n_voxels, replacement=True, generator=generator).sort().values
    sizes = labels.bincount(minlength=n_clusters).tolist()
    drawn = None
    if options.drawn is not None:
        drawn = draw_voxels(n_voxels, options.drawn, batch, generator).to(dtype)
    activations = normal(batch, n_voxels).detach()
    inputs = [
        normal(n_voxels, dim),
        normal(n_clusters, dim),
        normal(dim, dim, scale=dim**-0.5),
        normal(dim, dim, scale=dim**-0.5),
        normal(dim),
    ]
    embedding, query, key, value, bias = inputs
    key_bias = torch.zeros(dim, dtype=dtype)

    def finish(output: Tensor) -> list[Tensor]:
        return [output.detach(), *torch.autograd.grad(output.square().sum(), inputs)]

    def algebraic() -> list[Tensor]:
        return finish(
            cluster_attention(activations, embedding, sizes, query, key, value, bias, drawn)
        )

    def graph() -> list[Tensor]:
        return finish(
            cluster_attention_reference(
                activations, embedding, labels, query, key, key_bias, value, bias, drawn
            )
        )

    return algebraic, graph


def largest_error(ours: list[Tensor], truth: list[Tensor]) -> float:
    """Largest norm of a difference over the output and all gradients, relative."""
    pairs = zip(ours, truth, strict=True)
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def peak_bytes(step: Step) -> int:
    """Most bytes that one step holds at once beyond what was there before it."""
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    held = peak = 0
    for event in sorted(
        (event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    ):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def seconds(step: Step) -> float:
    """Wall-clock time of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> int:
    """Run the benchmark; 0 if the gate passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (
        ("batch", 4),
        ("voxels", 6000),
        ("dim", 256),
        ("clusters", 128),
        ("pairs", 5),
        ("seed", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    options = parser.parse_args()

    small = {**vars(options), "voxels": 500, "dim": 32}
    error = max(
        largest_error(*(step() for step in make_steps(one, torch.float64)))
        for one in (argparse.Namespace(**small, drawn=drawn) for drawn in (None, 300))
    )
    everything = argparse.Namespace(**vars(options), drawn=None)
    algebraic, graph = make_steps(everything, torch.float32)
    error_fp32 = largest_error(algebraic(), graph())
    # fp64: rounding of a few hundred terms. fp32: sums over the largest cluster and over D.
    passed = error < 1e-10 and error_fp32 < 1e-4
    gate = "passed" if passed else "failed"
    print(f"gate {gate}: relative error {error:.1e} in fp64, {error_fp32:.1e} in fp32")

    times = [(seconds(algebraic), seconds(graph)) for _ in range(options.pairs)]
    ours, theirs = ([1e3 * pair[i] for pair in times] for i in (0, 1))
    memory = peak_bytes(algebraic), peak_bytes(graph)
    print(f"{'form':<12}{'median ms':>12}{'min':>10}{'max':>10}{'extra MiB':>12}")
    for name, values, extra in (("algebraic", ours, memory[0]), ("graph", theirs, memory[1])):
        row = (statistics.median(values), min(values), max(values))
        print(f"{name:<12}{row[0]:>12.1f}{row[1]:>10.1f}{row[2]:>10.1f}{extra / 2**20:>12.1f}")
    result = {
        "name": "cluster-attention",
        "gate": gate,
        "speedup": round(statistics.median(other / one for one, other in times), 2),
        "memory_ratio": round(memory[0] / memory[1], 4),
        "baseline": "graph form in plain PyTorch (the reference)",
        "settings": vars(options),
    }
    print(json.dumps(result))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
