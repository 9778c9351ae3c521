"""Symmetric InfoNCE in tiles, forward and backward, against the plain form and open_clip's loss.

Correctness first, then all forms measured in turn, and one line of JSON last:
``hatch run bench info-nce``. The forms with rounded products keep fp32 tensors; torch rounds what
enters a matrix product, to bf16 on a CPU (``torch.backends.mkldnn.matmul.fp32_precision = "bf16"``)
and to tf32 on a GPU (``torch.backends.cuda.matmul.fp32_precision = "tf32"``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
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
from torch import Generator, Tensor

from brainit_bit import info_nce
from brainit_bit.ops.info_nce.reference import info_nce_reference

OURS, ROUNDED = "info_nce", "info_nce, rounded products"
PLAIN, PLAIN_ROUNDED = "plain", "plain, rounded products"
OPEN_CLIP = "open_clip ClipLoss"

Loss = Callable[[Tensor, Tensor], Tensor]


def problem(
    n_rows: int, dim: int, seed: int, dtype: torch.dtype, device: str
) -> tuple[Tensor, Tensor]:
    """Features whose logits spread by 2, with positives near 8: neither lost nor learnt."""
    generator, shape = Generator(device).manual_seed(seed), (n_rows, dim)
    noise, target = (
        torch.randn(shape, generator=generator, dtype=torch.float64, device=device)
        for _ in range(2)
    )
    target *= dim**-0.5
    predicted = 2 * noise + 8 * target
    return predicted.to(dtype).requires_grad_(), target.to(dtype).requires_grad_()


@contextmanager
def rounded(really: bool, on_gpu: bool) -> Iterator[None]:
    """Round what enters fp32 matrix products, as torch does it on a CPU or a GPU."""
    backend = torch.backends.cuda if on_gpu else torch.backends.mkldnn
    usual = backend.matmul.fp32_precision
    if really:
        backend.matmul.fp32_precision = "tf32" if on_gpu else "bf16"
    yield
    backend.matmul.fp32_precision = usual


def make_step(loss: Loss, inputs: tuple[Tensor, Tensor], fast: bool = False) -> Step:
    """Loss and both gradients."""

    def step() -> list[Tensor]:
        with rounded(fast, inputs[0].is_cuda):
            value = loss(*inputs)
            return [value.detach(), *torch.autograd.grad(value, inputs)]

    return step


def checks(seed: int, device: str) -> dict[str, tuple[float, float]]:
    """Loss and gradients of uneven tiles in fp64 and fp32 against the plain form in fp64."""
    n_rows, dim = 1_100, 48
    truth = make_step(info_nce_reference, problem(n_rows, dim, seed, torch.float64, device))()
    errors = {}
    for dtype in (torch.float64, torch.float32):
        ours = make_step(info_nce, problem(n_rows, dim, seed, dtype, device))()
        # Sums over the rows; sums over D rounded relative to the product of two lengths.
        lengths = 8 + 2 * dim**0.5
        tolerance = rounding(int(n_rows + lengths * dim), dtype)
        errors[f"1,100 rows, {dtype}, against the plain form in fp64"] = (
            relative_error(ours, truth),
            tolerance,
        )
    return errors


def main() -> None:
    """Run the benchmark."""
    chosen = options(__doc__, rows=16_384, large=32_768, dim=512, rounds=2)
    passed = gate(checks(chosen.seed, chosen.device))

    features = problem(chosen.rows, chosen.dim, chosen.seed, torch.float32, chosen.device)
    steps = {
        OURS: make_step(info_nce, features),
        ROUNDED: make_step(info_nce, features, fast=True),
        PLAIN: make_step(info_nce_reference, features),
        PLAIN_ROUNDED: make_step(info_nce_reference, features, fast=True),
    }
    if find_spec("open_clip") is not None:
        from open_clip.loss import ClipLoss

        clip = ClipLoss()
        steps[OPEN_CLIP] = make_step(
            lambda predicted, target: clip(predicted, target, 1.0), features
        )
    truth = steps[PLAIN]()
    errors = {name: relative_error(steps[name]()[1:], truth[1:]) for name in (OURS, ROUNDED)}
    del truth
    extra = {name: extra_bytes(steps[name]) for name in (OURS, ROUNDED, PLAIN)}
    times = in_turn(steps, chosen.rounds)
    print(f"\n{chosen.rows:,} rows of {chosen.dim}")
    table(times, extra)
    for name, error in errors.items():
        print(f"{name}: gradients differ by {error:.1e} from the plain form in fp32")

    large = problem(chosen.large, chosen.dim, chosen.seed, torch.float32, chosen.device)
    steps = {OURS: make_step(info_nce, large), ROUNDED: make_step(info_nce, large, fast=True)}
    large_extra, large_times = {}, {}
    for name, step in steps.items():  # once, under the profiler that watches the memory
        start = time.perf_counter()
        large_extra[name] = extra_bytes(step)
        large_times[name] = [time.perf_counter() - start]
    print(f"\n{chosen.large:,} rows of {chosen.dim}")
    table(large_times, large_extra)
    finish(
        "info-nce",
        passed,
        speedup=round(speedup(times, OURS, PLAIN), 2),
        speedup_rounded=round(speedup(times, ROUNDED, PLAIN), 2),
        speedup_rounded_both=round(speedup(times, ROUNDED, PLAIN_ROUNDED), 2),
        speedup_over_open_clip=round(speedup(times, OURS, OPEN_CLIP), 2)
        if OPEN_CLIP in times
        else None,
        memory_ratio=round(extra[OURS] / extra[PLAIN], 4),
        gradient_error=errors,
        ms=milliseconds(times),
        large_ms=milliseconds(large_times),
        large_extra_mib={name: round(size / 2**20, 1) for name, size in large_extra.items()},
        settings=vars(chosen),
    )


if __name__ == "__main__":
    main()
