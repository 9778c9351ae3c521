"""The brain tokenizer's attention at paper size, forward and backward, against a graph form.

Correctness first, then pairs measured in turn, and one line of JSON last:
``hatch run bench cluster-attention``. Drawing the voxels counts in all forms. The graphs hold the
drawn voxels only, of eight samples at a time where the batch is larger: the reference's, with nodes
of one kind, and a bipartite one, which spares it queries and skip terms of voxels.
"""

from __future__ import annotations

import resource

import torch
from _graph_form import NAME
from _measure import (
    Step,
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
from torch import Tensor

OURS, GRAPH, BIPARTITE = "cluster_attention", "graph, nodes of one kind", "bipartite graph"
PART = 8  # samples for which a graph fits into a few GiB


def forms(steps: TokenizerSteps, activations: Tensor) -> dict[str, Step]:
    """The algebraic form and both graphs."""
    return {
        OURS: steps.ours(activations),
        GRAPH: steps.theirs(activations, PART, one_kind=True),
        BIPARTITE: steps.theirs(activations, PART),
    }


def main() -> None:
    """Run the benchmark."""
    chosen = options(
        __doc__, batch=8, large=64, voxels=40_000, draws=15_000, dim=512, clusters=128, rounds=3
    )
    sizes = chosen.voxels, chosen.draws, chosen.dim, chosen.clusters, chosen.seed
    steps = TokenizerSteps(*sizes, dtype=torch.float32, device=chosen.device)
    small, large = steps.activations(chosen.batch), steps.activations(chosen.large)
    for _ in range(2):
        steps.ours(large)()
    # The whole process, Python and torch with it, before any graph is built.
    in_all = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    errors = checks(chosen.seed, chosen.device)
    # Both round, in sums over a cluster's voxels and twice over D.
    tolerance = 2 * rounding(max(steps.voxels.sizes) + 2 * chosen.dim, torch.float32)
    error = relative_error(steps.ours(small)(), steps.theirs(small)())
    passed = gate({**errors, "this size, both in fp32": (error, tolerance)})

    extra = {name: extra_bytes(step) for name, step in forms(steps, small).items()}
    figures = {}
    for batch, rounds in ((small, chosen.rounds), (large, 1)):
        times = in_turn(forms(steps, batch), rounds)
        print(f"\n{len(batch)} samples, {chosen.draws} draws from {chosen.voxels} voxels; {NAME}")
        table(times, extra if batch is small else {OURS: extra_bytes(steps.ours(batch))})
        ratios = {name: round(speedup(times, OURS, name), 1) for name in (GRAPH, BIPARTITE)}
        figures[len(batch)] = {"speedup": ratios, "ms": milliseconds(times)}
    print(f"\nwhole process after {chosen.large} samples in the algebraic form: {in_all:.2f} GiB")
    finish(
        "cluster-attention",
        passed,
        speedup=figures[chosen.batch]["speedup"][GRAPH],
        memory_ratio=round(extra[OURS] / extra[GRAPH], 4),
        memory_ratio_bipartite=round(extra[OURS] / extra[BIPARTITE], 4),
        baseline=f"{NAME}, {GRAPH}",
        by_batch=figures,
        process_gib=round(in_all, 2),
        settings=vars(chosen),
    )


if __name__ == "__main__":
    main()
