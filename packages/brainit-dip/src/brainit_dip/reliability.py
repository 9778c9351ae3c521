"""How well a decoder predicts each token, as weights of an inversion."""

from __future__ import annotations

import torch
from torch import Tensor

from brainit_dip.vgg_tokens import VGGTokens


class TokenReliability:
    """Shares of variance that predicted tokens explain, summed up batch by batch.

    Beyond the paper, which weighs all tokens and levels the same. Feed it validation images only:
    on training images a decoder looks better than it is.
    """

    def __init__(self, layout: VGGTokens) -> None:
        """Start with no image."""
        self.layout = layout
        self._count = 0
        self._sums = torch.zeros(5, layout.n_tokens, layout.token_dim, dtype=torch.float64)

    def update(self, predicted: Tensor, true: Tensor) -> None:
        """Add images.

        Args:
            predicted: Tokens [B, n_tokens, token_dim] as decoded.
            true: Tokens of the images themselves, same shape.

        Raises:
            ValueError: If a shape differs from the layout's or values are not finite.
        """
        wanted = (self.layout.n_tokens, self.layout.token_dim)
        if predicted.shape != true.shape or tuple(true.shape[1:]) != wanted:
            shapes = f"{list(predicted.shape)} and {list(true.shape)}"
            raise ValueError(f"tokens: expected twice [B, {wanted[0]}, {wanted[1]}], got {shapes}")
        if not (predicted.isfinite().all() and true.isfinite().all()):
            raise ValueError("tokens: expected finite values")
        p, t = predicted.double().cpu(), true.double().cpu()
        for total, values in zip(self._sums, (p, t, p * p, t * t, p * t), strict=True):
            total += values.sum(0)
        self._count += len(t)

    def tokens(self) -> Tensor:
        """Squared correlation of each token, [n_tokens] in [0, 1]; zero where it is negative.

        Values are centred over the images, and their products summed over a token's values.

        Raises:
            ValueError: If fewer than two images were added.
        """
        spread, explained = self._moments()
        return _share(explained, spread)

    def levels(self) -> tuple[float, ...]:
        """The same of each level, for `InversionConfig.level_weights`."""
        spread, explained = self._moments()
        sizes = self.layout.level_sizes
        spreads, products = spread.split(sizes, 1), explained.split(sizes)
        return tuple(
            float(_share(product.sum(), both.sum(1)))
            for product, both in zip(products, spreads, strict=True)
        )

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Variances of prediction and truth, [2, n_tokens], and their covariance, [n_tokens]."""
        if self._count < 2:
            raise ValueError(f"reliability: expected two images or more, got {self._count}")
        p, t, pp, tt, pt = self._sums / self._count
        variances = torch.stack([pp - p * p, tt - t * t]).sum(2).clamp(min=0)
        return variances, (pt - p * t).sum(1)


def _share(covariance: Tensor, variances: Tensor) -> Tensor:
    """Squared correlation, zero where it is negative or one side is constant."""
    product = variances.prod(0)
    share = covariance.clamp(min=0).square() / torch.where(product > 0, product, 1.0)
    return torch.where(product > 0, share, 0.0).clamp(max=1).float()
