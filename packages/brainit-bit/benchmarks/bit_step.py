"""A whole training step at paper size: voxel draw, forward, loss, backward, AdamW.

Correctness first, then all forms measured in turn, and one line of JSON last:
``hatch run bench bit-step``. The reference form computes the brain tokens on a graph whose nodes
are all of one kind and every attention with explicit weights; the rest of its step is the same. A
bipartite graph spares it what a graph layer computes for nothing. ``--compiled 1`` adds the model
under torch.compile. The low-level model draws the
paper's 1,232 query tokens a sample and trains on the multi-scale InfoNCE.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import torch
from _graph_form import NAME, GraphTokenizer
from _measure import (
    Step,
    finish,
    gate,
    in_turn,
    milliseconds,
    options,
    relative_error,
    rounding,
    seconds,
    speedup,
    table,
)
from torch import Generator, Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from brainit_bit import (
    BITConfig,
    BrainInteractionTransformer,
    draw_queries,
    draw_voxels,
    multi_scale_info_nce,
)

SEMANTIC, REFERENCE = "semantic, fp32", "semantic, fp32, reference form"
BIPARTITE = "semantic, fp32, bipartite graph"
SEMANTIC_BF16, REFERENCE_BF16 = "semantic, bf16 autocast", "semantic, bf16, reference form"
COMPILED, COMPILED_BF16 = "semantic, fp32, compiled", "semantic, bf16, compiled"
LOW_LEVEL, LOW_LEVEL_BF16 = "low-level, fp32", "low-level, bf16 autocast"
LEVELS, DRAWN_TOKENS = (56**2, 55**2, 28**2, 14**2, 7**2), (512, 512, 128, 64, 16)


Sizes = Sequence[int]


def eager_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention with its weights in memory."""
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value


class Trainer:
    """A model with one subject, random responses and targets, and AdamW.

    Args:
        config: The model's sizes.
        n_voxels: Voxels of the subject.
        n_draws: Voxels drawn a sample.
        batch: Samples a step.
        seed: Of all numbers.
        device: Where everything lies.
    """

    def __init__(
        self, config: BITConfig, n_voxels: int, n_draws: int, batch: int, seed: int, device: str
    ) -> None:
        self.generator = Generator().manual_seed(seed)
        shares = torch.rand(config.n_clusters, generator=self.generator) ** 2
        labels = shares.multinomial(n_voxels, replacement=True, generator=self.generator)
        torch.manual_seed(seed)
        self.model = BrainInteractionTransformer(config)
        self.model.add_subject("subj01", labels, generator=self.generator)
        self.n_draws, self.seed = n_draws, seed
        self.activations = torch.randn(batch, n_voxels, generator=self.generator)
        tokens = sum(DRAWN_TOKENS) if self._contrasts else config.n_query_tokens
        self.target = torch.randn(batch, tokens, config.output_dim, generator=self.generator)
        self.model = self.model.to(device)
        self.activations, self.target = self.activations.to(device), self.target.to(device)
        self.eager = False
        self.bf16 = False

    @property
    def _contrasts(self) -> bool:
        return self.model.config.n_query_tokens == sum(LEVELS)

    def to(self, dtype: torch.dtype) -> Trainer:
        """Everything in another precision."""
        self.model, self.target = self.model.to(dtype), self.target.to(dtype)
        self.activations = self.activations.to(dtype)
        return self

    def copy(self, bf16: bool = False) -> Trainer:
        """The same in its own memory, under bf16 autocast if so asked."""
        other = copy.deepcopy(self)
        other.bf16 = bf16
        return other

    def reference(self, bf16: bool = False, one_kind: bool = True) -> Trainer:
        """The same on a graph and with explicit attention weights."""
        other = self.copy(bf16)
        other.model.tokenizer = GraphTokenizer(other.model.tokenizer, one_kind)
        other.eager = True
        return other

    def compiled(self, bf16: bool = False) -> Trainer:
        """The same as one compiled graph, replayed as a whole on a GPU."""
        other = self.copy(bf16)
        other.model = torch.compile(other.model, fullgraph=True, mode="reduce-overhead")
        return other

    def loss(self) -> Tensor:
        """Loss of drawn voxels and query tokens, the same every time."""
        generator = Generator(self.activations.device).manual_seed(self.seed)
        batch, n_voxels = self.activations.shape
        drawn = draw_voxels(n_voxels, self.n_draws, batch, generator).to(self.activations.dtype)
        queries = levels = None
        if self._contrasts:
            queries, levels = draw_queries(LEVELS, DRAWN_TOKENS, generator, batch)
        attention = eager_attention if self.eager else functional.scaled_dot_product_attention
        with (
            patch.object(functional, "scaled_dot_product_attention", attention),
            torch.autocast(self.activations.device.type, torch.bfloat16, enabled=self.bf16),
        ):
            features = self.model(self.activations, "subj01", drawn, queries).features
        features = features.to(self.target.dtype)
        if levels is None:
            return functional.mse_loss(features, self.target)
        return multi_scale_info_nce(features, self.target, levels)

    def gradients(self) -> list[Tensor]:
        """Loss and the gradients of all parameters."""
        loss = self.loss()
        return [loss.detach(), *torch.autograd.grad(loss, list(self.model.parameters()))]

    def step(self) -> Step:
        """A whole training step."""
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=5e-4, fused=True)

        def run() -> list[Tensor]:
            optimiser.zero_grad()
            loss = self.loss()
            loss.backward()
            optimiser.step()
            return [loss.detach()]

        return run


def checks(seed: int, device: str) -> dict[str, tuple[float, float]]:
    """Loss and gradients of a small model in fp64 and fp32 against the reference form in fp64."""
    sizes = BITConfig(16, dim=32, n_heads=4, n_rounds=2, n_query_tokens=20, output_dim=24)
    small = Trainer(sizes, n_voxels=600, n_draws=300, batch=3, seed=seed, device=device)
    # The initial scores are so small that every softmax weight is the same; these differ.
    small.model.voxels("subj01").embedding.data *= 100
    small.model.tokenizer.centres.data *= 100
    truth = small.reference().to(torch.float64).gradients()
    longest = max(small.model.voxels("subj01").sizes) + 3 * 20 + 4 * sizes.dim
    depth = 2 * (2 * sizes.n_rounds + 2)  # blocks passed, there and back
    return {
        f"600 voxels, {dtype}, against the reference form in fp64": (
            relative_error(small.copy().to(dtype).gradients(), truth),
            rounding(longest * depth, dtype),
        )
        for dtype in (torch.float64, torch.float32)
    }


def flops(trainer: Trainer) -> int:
    """Floating-point operations of matrix products in the forward and backward pass."""

    def context(activations: Sizes, embedding: Sizes, *_: Any, **__: Any) -> int:
        return 2 * (activations[0] + 1) * embedding[0] * embedding[1]

    def context_backward(
        _: Sizes, activations: Sizes, embedding: Sizes, *__: Any, **___: Any
    ) -> int:
        return 4 * (activations[0] + 1) * embedding[0] * embedding[1]

    def contrast(predicted: Sizes, target: Sizes, *_: Any, **__: Any) -> int:
        return 2 * predicted[0] * predicted[1] * target[0]

    def contrast_backward(*arguments: Any, **_: Any) -> int:
        products = 3 if arguments[8] else 2  # logits again, then each gradient
        return products * contrast(*arguments[3:5])

    ops = torch.ops.brainit
    formulas = {
        ops.cluster_context: context,
        ops.cluster_context_backward: context_backward,
        ops.info_nce: contrast,
        ops.info_nce_backward: contrast_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        counted = trainer.copy()
        counted.eager = True  # its products are seen, those of fused attention are not
        counted.loss().backward()
    total: int = counter.get_total_flops()
    return total


def product_rate(dtype: torch.dtype, device: str) -> float:
    """Operations a second of one large matrix product."""
    size = 3072 if device == "cpu" else 8192
    matrix = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / seconds(lambda: [matrix @ matrix])


def main() -> None:
    """Run the benchmark."""
    chosen = options(__doc__, batch=8, voxels=40_000, draws=15_000, rounds=2, compiled=0)
    passed = gate(checks(chosen.seed, chosen.device))
    sizes = chosen.voxels, chosen.draws, chosen.batch, chosen.seed, chosen.device
    semantic = Trainer(BITConfig.semantic(), *sizes)
    low_level = Trainer(BITConfig.low_level(), *sizes)
    counts = {SEMANTIC: flops(semantic), LOW_LEVEL: flops(low_level)}
    counts |= {SEMANTIC_BF16: counts[SEMANTIC], LOW_LEVEL_BF16: counts[LOW_LEVEL]}
    steps = {
        SEMANTIC: semantic.copy().step(),
        REFERENCE: semantic.reference().step(),
        BIPARTITE: semantic.reference(one_kind=False).step(),
        SEMANTIC_BF16: semantic.copy(bf16=True).step(),
        REFERENCE_BF16: semantic.reference(bf16=True).step(),
        LOW_LEVEL: low_level.copy().step(),
        LOW_LEVEL_BF16: low_level.copy(bf16=True).step(),
    }
    if chosen.compiled:
        steps[COMPILED] = semantic.compiled().step()
        steps[COMPILED_BF16] = semantic.compiled(bf16=True).step()
    for step in steps.values():
        for _ in range(3):  # the optimiser's state comes with the first, a graph with the second
            step()
    times = in_turn(steps, chosen.rounds)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    rates = {name: product_rate(dtype, chosen.device) for name, dtype in dtypes.items()}
    print(f"\n{chosen.batch} samples, {chosen.draws} draws from {chosen.voxels} voxels; {NAME}")
    table(times, {})
    shares = {}
    for name, count in counts.items():
        rate = count / statistics.median(times[name])
        bound = rates["bf16" if "bf16" in name else "fp32"]
        shares[name] = round(rate / bound, 2)
        done, possible = rate / 1e9, bound / 1e9
        print(f"{name}: {count / 1e9:.0f} GFLOP, {done:.0f} a second; one product {possible:.0f}")
    finish(
        "bit-step",
        passed,
        speedup=round(speedup(times, SEMANTIC, REFERENCE), 2),
        speedup_over_bipartite=round(speedup(times, SEMANTIC, BIPARTITE), 2),
        speedup_bf16=round(speedup(times, SEMANTIC_BF16, REFERENCE_BF16), 2),
        speedup_bf16_over_fp32_reference=round(speedup(times, SEMANTIC_BF16, REFERENCE), 2),
        baseline=f"{NAME} and explicit attention, same precision",
        ms=milliseconds(times),
        gflop={name: round(count / 1e9) for name, count in counts.items()},
        product_gflop_per_s={name: round(rate / 1e9) for name, rate in rates.items()},
        share_of_product_rate=shares,
        settings=vars(chosen),
    )


if __name__ == "__main__":
    main()
