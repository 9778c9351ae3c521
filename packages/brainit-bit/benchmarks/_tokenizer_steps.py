"""Forward and backward of the brain tokenizer's attention, voxel draw included, in both forms."""

from __future__ import annotations

import torch
from _graph_form import GraphTokenizer
from _measure import Step, relative_error, rounding
from torch import Generator, Tensor

from brainit_bit import draw_voxels
from brainit_bit.subjects import SubjectVoxels
from brainit_bit.tokenizer import BrainTokenizer


class TokenizerSteps:
    """One problem with clusters of very uneven sizes, some of them empty.

    Args:
        n_voxels: Voxels of the subject, N.
        n_draws: Voxels drawn a sample, with replacement.
        dim: Width, D.
        n_clusters: Clusters, K.
        seed: Of all numbers.
        dtype: Of all tensors.
        device: Where they lie.
    """

    def __init__(
        self,
        n_voxels: int,
        n_draws: int,
        dim: int,
        n_clusters: int,
        seed: int,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        self.device = device
        self.generator = Generator(device).manual_seed(seed)
        self.seed, self.n_draws = seed, n_draws
        shares = torch.rand(n_clusters, generator=self.generator, device=device) ** 2
        labels = shares.multinomial(n_voxels, replacement=True, generator=self.generator)
        # Spread-out scores and softmax weights; the initial ones would make all weights equal.
        self.voxels = SubjectVoxels(labels, n_clusters, dim, self._normal(n_voxels, dim)).to(dtype)
        torch.manual_seed(seed)
        self.tokenizer = BrainTokenizer(n_clusters, dim).to(device, dtype)
        self.tokenizer.centres.data = self._normal(n_clusters, dim).to(dtype)
        self.bipartite = GraphTokenizer(self.tokenizer)
        self.one_kind = GraphTokenizer(self.tokenizer, one_kind=True)
        self.dtype = dtype
        own = self.tokenizer
        linear = (own.query.weight, own.query.bias, own.key.weight, *own.value.parameters())
        self.inputs = [self.voxels.embedding, own.centres, *linear]

    def activations(self, batch: int) -> Tensor:
        """[batch, N], for `ours` and `theirs`."""
        return self._normal(batch, len(self.voxels.labels)).to(self.dtype)

    def ours(self, activations: Tensor) -> Step:
        """Draw, attended values and all gradients in the algebraic form."""
        return lambda: self._step(self.tokenizer, activations, self._draw(len(activations)))

    def theirs(self, activations: Tensor, part: int | None = None, one_kind: bool = False) -> Step:
        """The same on a graph, `part` samples at a time where memory is short."""
        graph = self.one_kind if one_kind else self.bipartite

        def step() -> list[Tensor]:
            parts = zip(
                activations.split(part or len(activations)),
                self._draw(len(activations)).split(part or len(activations)),
                strict=True,
            )
            output, *total = self._step(graph, *next(parts))
            outputs = [output]
            for one in parts:
                output, *gradients = self._step(graph, *one)
                outputs.append(output)
                for sum_, gradient in zip(total, gradients, strict=True):
                    sum_ += gradient
            return [torch.cat(outputs), *total]

        return step

    def _draw(self, batch: int) -> Tensor:
        generator = Generator(self.device).manual_seed(self.seed)
        return draw_voxels(self.voxels.n_voxels, self.n_draws, batch, generator)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def _step(
        self, form: BrainTokenizer | GraphTokenizer, activations: Tensor, drawn: Tensor
    ) -> list[Tensor]:
        attended = form.attend(activations, self.voxels, drawn)
        loss = attended.square().sum()
        return [attended.detach(), *torch.autograd.grad(loss, self.inputs)]


def checks(seed: int, device: str) -> dict[str, tuple[float, float]]:
    """Output and all gradients of a small problem, in fp64 and fp32, against the graph in fp64."""
    sizes = {
        "n_voxels": 700,
        "n_draws": 300,
        "dim": 32,
        "n_clusters": 16,
        "seed": seed,
        "device": device,
    }
    exact = TokenizerSteps(**sizes, dtype=torch.float64)
    truth = exact.theirs(exact.activations(3))()
    errors = {}
    for dtype in (torch.float64, torch.float32):
        steps = TokenizerSteps(**sizes, dtype=dtype)
        error = relative_error(steps.ours(steps.activations(3))(), truth)
        # The longest sums run over a cluster's voxels and twice over D.
        tolerance = rounding(max(steps.voxels.sizes) + 2 * sizes["dim"], dtype)
        errors[f"700 voxels, {dtype}, against the graph form in fp64"] = error, tolerance
    return errors
