"""How the brain tokenizer's attention grows with voxels and with the batch.

Correctness first, then two tables, forward and backward with the voxel draw (three eighths of the
voxels), and one line of JSON last: ``hatch run bench bit-scaling``. The bipartite graph runs at the
smallest size, for the speed-up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from _graph_form import NAME
from _measure import Step, extra_bytes, finish, gate, in_turn, milliseconds, options, speedup, table
from _tokenizer_steps import TokenizerSteps, checks
from torch import float32

VOXELS = (10_000, 20_000, 40_000, 80_000, 160_000)
BATCHES = (8, 16, 32, 64, 128)


def measure(steps: Mapping[int, Step], what: str, rounds: int) -> dict[str, object]:
    """Print times and extra memory by size, and give them with the exponents of their growth."""
    named = {f"{size:,} {what}": step for size, step in steps.items()}
    extra = {name: extra_bytes(step) for name, step in named.items()}  # and warm
    times = in_turn(named, rounds)
    print()
    table(times, extra)
    milli, smallest, largest = milliseconds(times), min(steps), max(steps)
    first, *_, last = named
    growth = math.log(largest / smallest)
    return {
        "ms": milli,
        "extra_mib": {name: round(size / 2**20, 1) for name, size in extra.items()},
        "time_exponent": round(math.log(milli[last] / milli[first]) / growth, 2),
        "memory_exponent": round(math.log(extra[last] / extra[first]) / growth, 2),
    }


def main() -> None:
    """Run the benchmark."""
    chosen = options(__doc__, batch=8, voxels=40_000, dim=512, clusters=128, rounds=3)
    passed = gate(checks(chosen.seed, chosen.device))

    def problem(n_voxels: int) -> TokenizerSteps:
        draws = n_voxels * 3 // 8
        return TokenizerSteps(
            n_voxels, draws, chosen.dim, chosen.clusters, chosen.seed, float32, chosen.device
        )

    by_voxels = {n_voxels: problem(n_voxels) for n_voxels in VOXELS}
    steps = {n: one.ours(one.activations(chosen.batch)) for n, one in by_voxels.items()}
    smallest = by_voxels[VOXELS[0]]
    pair = {"ours": steps[VOXELS[0]], NAME: smallest.theirs(smallest.activations(chosen.batch))}
    voxels = measure(steps, f"voxels, {chosen.batch} samples", chosen.rounds)
    del by_voxels, steps
    one = problem(chosen.voxels)
    steps = {batch: one.ours(one.activations(batch)) for batch in BATCHES}
    batch = measure(steps, f"samples, {chosen.voxels:,} voxels", chosen.rounds)
    finish(
        "bit-scaling",
        passed,
        speedup=round(speedup(in_turn(pair, 1), "ours", NAME), 1),
        baseline=f"{NAME}, {VOXELS[0]:,} voxels",
        voxels=voxels,
        batch=batch,
        settings=vars(chosen),
    )


if __name__ == "__main__":
    main()
