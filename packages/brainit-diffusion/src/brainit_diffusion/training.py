"""A run of stage 2: what it needs is told first, then losses come, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import chain, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from brainit_diffusion.memory import training_memory
from brainit_diffusion.stage2 import Stage2


class Batch(NamedTuple):
    """What `Stage2` is called with, on its device.

    Attributes:
        inputs: The decoder's.
        latents: Clean latents times the VAE's scaling factor [B, C, h, w] (`UnCLIP.encode`).
        time_ids: Vector condition [B, 4] (`vector_condition`).
    """

    inputs: tuple[Any, ...]
    latents: Tensor
    time_ids: Tensor


def train(
    model: Stage2,
    batches: Iterable[Batch],
    *,
    learning_rate: float = 1e-5,
    accumulate: int = 4,
    average: Any = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> Iterator[float]:
    """Train by AdamW, and yield the mean loss of every step (Brain-IT, arXiv 2510.25976).

    Nothing runs before the first loss is asked for; then the memory that a step needs is reported
    before anything is computed. Between two losses the model may be saved or looked at.

    Args:
        model: What learns.
        batches: As many as there shall be; the last step may have fewer.
        learning_rate: AdamW's.
        accumulate: Batches of a step.
        average: Diffusers' `EMAModel` of `model.trained()`, stepped with it.
        dtype: Computing type: float32, or bfloat16 by autocast.
        seed: Of all randomness of the loss.
        report: Takes the memory that is needed.

    Yields:
        Mean loss over a step's batches.

    Raises:
        ValueError: If a loss is not finite; the step is not taken.
    """
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise ValueError("batches: expected at least one")
    generator = torch.Generator().manual_seed(seed)

    def precision() -> AbstractContextManager[Any]:
        return torch.autocast(first.latents.device.type, dtype, enabled=dtype != torch.float32)

    def loss(batch: Batch) -> Tensor:
        with precision():
            value: Tensor = model(
                *batch.inputs, latents=batch.latents, time_ids=batch.time_ids, generator=generator
            )
        return value

    needed = training_memory(
        model, lambda: loss(first), average=average is not None, accumulate=accumulate > 1
    )
    report(f"a step needs\n{needed}")
    optimiser = torch.optim.AdamW(model.trained(), lr=learning_rate)
    todo = chain([first], rest)
    while step := list(islice(todo, accumulate)):
        total = 0.0
        for batch in step:
            value = loss(batch) / len(step)
            value.backward()
            total += value.item()
        if not torch.isfinite(torch.tensor(total)):
            raise ValueError(f"stage 2: the loss is {total}, expected a finite one")
        optimiser.step()
        optimiser.zero_grad()
        if average is not None:
            average.step(model.trained())
        yield total
