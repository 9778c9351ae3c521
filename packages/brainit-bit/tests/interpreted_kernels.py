"""Runs the Triton kernels in Triton's interpreter, in a process of its own.

``python interpreted_kernels.py FOLDER`` reads every ``*.problem`` there (safetensors) and writes
outputs and gradients beside it. The interpreter must be chosen before triton is first imported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from brainit_bit.ops.cluster_attention import triton as cluster_attention
from brainit_bit.ops.info_nce import triton as info_nce


def attend(given: dict[str, Tensor]) -> dict[str, Tensor]:
    sizes = given["sizes"].tolist()
    inputs = given["activations"], given["embedding"], given["query"]
    context, occupied, weights, slope = cluster_attention.cluster_context(
        *inputs, given.get("drawn"), sizes
    )
    saved = given["seed"], *inputs, weights, slope, sizes
    grads = cluster_attention.cluster_context_backward(*saved, True)
    if len(sizes) == 1:
        without = cluster_attention.cluster_context_backward(*saved, False)
        assert without[0].shape == (0,)
        assert all(
            torch.equal(one, other) for one, other in zip(grads[1:], without[1:], strict=True)
        )
    return {
        "context": context,
        "occupied": occupied,
        "grad_activations": grads[0],
        "grad_embedding": grads[1],
        "grad_query": grads[2],
    }


def contrast(given: dict[str, Tensor]) -> dict[str, Tensor]:
    pair, first = (given["predicted"], given["target"]), int(given["first"])
    positives, rows, columns = info_nce.info_nce(*pair, first)
    seeds = given["seed_positives"], given["seed_rows"], given["seed_columns"]
    saved = *seeds, *pair, rows, columns, first
    grad_predicted, grad_target = info_nce.info_nce_backward(*saved, True)
    if len(rows) == 1:
        without = info_nce.info_nce_backward(*saved, False)
        assert without[1].shape == (0,)
        assert torch.equal(without[0], grad_predicted)
    return {
        "positives": positives,
        "rows": rows,
        "columns": columns,
        "grad_predicted": grad_predicted,
        "grad_target": grad_target,
    }


if __name__ == "__main__":
    info_nce.ROWS, info_nce.COLUMNS = 32, 64  # so that small problems have several tiles
    # What a kernel leaves unwritten is NaN, not last call's memory.
    torch.use_deterministic_algorithms(True)
    for path in sorted(Path(sys.argv[1]).glob("*.problem")):
        problem = load_file(path)
        found = contrast(problem) if "predicted" in problem else attend(problem)
        save_file(found, path.with_suffix(".found"))
