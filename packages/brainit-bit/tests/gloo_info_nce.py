"""One of two processes that share a batch; `test_bit_info_nce_operator` runs both."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

if __name__ == "__main__":
    sys.modules["triton"] = None  # type: ignore[assignment]  # a CPU needs no Triton

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch import distributed as dist

from brainit_bit import info_nce, multi_scale_info_nce

WORLD = 2


def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [12, 5] and targets [12, 4] of all processes together, and a linear model [5, 4]."""
    generator = torch.Generator().manual_seed(0)
    inputs, target, weight = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((12, 5), (12, 4), (5, 4))
    )
    return inputs, target.requires_grad_(), weight.requires_grad_()


def run(rank: int, folder: Path) -> None:
    """Compute this process's part and write losses and gradients to ``rank<n>.safetensors``."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=100),
    )
    try:
        group = dist.group.WORLD
        inputs, target, weight = problem()
        own = slice(6 * rank, 6 * rank + 6)
        predicted = inputs[own] @ weight
        predicted.retain_grad()
        loss = info_nce(predicted, target[own], group=group)
        loss.backward()
        with torch.no_grad():
            images = predicted.view(2, 3, 4), target[own].view(2, 3, 4)
            scales = multi_scale_info_nce(*images, torch.tensor([0, 1, 0]), group=group)
        found = {"loss": loss, "scales": scales, "weight": weight.grad}
        found |= {"predicted": predicted.grad, "target": target.grad[own]}
        found["refused"] = torch.tensor(refuses_other_shapes(rank, group))
        found = {name: tensor.detach().contiguous() for name, tensor in found.items()}
        save_file(found, folder / f"rank{rank}.safetensors")
    finally:
        dist.destroy_process_group()


def refuses_other_shapes(rank: int, group: dist.ProcessGroup) -> bool:
    rows = torch.zeros(3 + rank, 4)
    try:
        info_nce(rows, rows, group=group)
    except ValueError as error:
        return "[[3, 4], [4, 4]]" in str(error)
    return False


if __name__ == "__main__":
    run(int(sys.argv[1]), Path(sys.argv[2]))
