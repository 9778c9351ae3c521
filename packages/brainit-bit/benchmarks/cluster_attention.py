"""The brain tokenizer's attention at paper size, forward and backward, against a graph form.

Correctness first, then pairs measured in turn, and one line of JSON last:
``hatch run bench cluster-attention``. Drawing the voxels counts in both forms. The graph form gets
the drawn voxels only, eight samples at a time where the batch is larger.
"""

from __future__ import annotations

import resource

import torch
from _graph_form import NAME
from _measure import (
    extra_bytes,
    finish,
    gate,
    in_turn,
    milliseconds,
    options,
    relative_error,
    rounding,
    speedup,
    table,
)
from _tokenizer_steps import TokenizerSteps, checks

OURS = "cluster_attention"
PART = 8  # samples for which the graph form fits into a few GiB


def main() -> None:
    """Run the benchmark."""
    chosen = options(
        __doc__, batch=8, large=64, voxels=40_000, draws=15_000, dim=512, clusters=128, rounds=3
    )
    sizes = chosen.voxels, chosen.draws, chosen.dim, chosen.clusters, chosen.seed
    steps = TokenizerSteps(*sizes, dtype=torch.float32)
    small, large = steps.activations(chosen.batch), steps.activations(chosen.large)
    for _ in range(2):
        steps.ours(large)()
    # The whole process, Python and torch with it, before any graph is built.
    in_all = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    errors = checks(chosen.seed)
    # Both round, in sums over a cluster's voxels and twice over D.
    tolerance = 2 * rounding(max(steps.voxels.sizes) + 2 * chosen.dim, torch.float32)
    error = relative_error(steps.ours(small)(), steps.theirs(small)())
    passed = gate({**errors, "this size, both in fp32": (error, tolerance)})

    extra = {OURS: extra_bytes(steps.ours(small)), NAME: extra_bytes(steps.theirs(small))}
    figures = {}
    for batch, rounds in ((small, chosen.rounds), (large, 1)):
        times = in_turn({OURS: steps.ours(batch), NAME: steps.theirs(batch, PART)}, rounds)
        print(f"\n{len(batch)} samples, {chosen.draws} draws from {chosen.voxels} voxels")
        table(times, extra if batch is small else {OURS: extra_bytes(steps.ours(batch))})
        ratio = round(speedup(times, OURS, NAME), 1)
        figures[len(batch)] = {"speedup": ratio, "ms": milliseconds(times)}
    print(f"\nwhole process after {chosen.large} samples in the algebraic form: {in_all:.2f} GiB")
    finish(
        "cluster-attention",
        passed,
        speedup=figures[chosen.batch]["speedup"],
        memory_ratio=round(extra[OURS] / extra[NAME], 4),
        baseline=NAME,
        by_batch=figures,
        process_gib=round(in_all, 2),
        settings=vars(chosen),
    )


if __name__ == "__main__":
    main()
