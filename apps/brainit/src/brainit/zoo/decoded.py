"""CLIP tokens as a brain decoder gives them: what the UNet must bear, and learns to.

A decoder that minimises squared error gives the mean of what the tokens may be: shrunk towards
their average, directions of large variance well, those of small variance hardly at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, log

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

CLEAN = 0.3
"""Fraction of draws that stay as they are."""
REACH = (0.1, 1.0)
"""Range of the part of variance that decoding explains where noise is least."""
NOISE = (0.01, 30.0)
"""Range, in the logarithm, of the variance at which half of that is left; tokens have about one."""


@dataclass(frozen=True)
class DecodedTokens:
    """Draws decoded tokens for true ones.

    In a basis of spatial frequencies and channel components, each coefficient t of variance s is
    taken as Gaussian, and the decoder's answer p explains r = a s / (s + n) of it, with a and n
    drawn once for all coefficients. The best estimate, for which t - p is independent of p, is then
    distributed as r t + sqrt(r (1 - r) s) * normal.

    Attributes:
        mean: Mean token of each place [T, W].
        frequencies: Orthonormal cosine transform over places [T, T].
        components: Orthonormal components of channels, one a column [W, W].
        variance: Variance of each coefficient [T, W].
    """

    mean: Tensor
    frequencies: Tensor
    components: Tensor
    variance: Tensor

    @classmethod
    def fit(cls, tokens: Tensor) -> DecodedTokens:
        """Take mean, components and variances from true tokens [N, T, W] of a square of places."""
        tokens = tokens.float()
        mean = tokens.mean(0)
        centred = (tokens - mean).flatten(0, 1)
        components = torch.linalg.eigh(centred.T @ centred).eigenvectors
        side = isqrt(tokens.shape[1])
        line = torch.from_numpy(dct(np.eye(side), norm="ortho", axis=0)).float()
        frequencies = torch.kron(line, line)
        variance = (frequencies @ (tokens - mean) @ components).var(0)
        return cls(mean, frequencies, components, variance)

    def draw(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """Decoded tokens of true ones [B, T, W]; some stay true."""
        clean, reach, level = torch.rand(3, len(tokens), 1, 1, generator=generator)
        low, high = (log(value) for value in NOISE)
        noise = torch.exp(low + (high - low) * level)
        explained = torch.lerp(torch.tensor(REACH[0]), torch.tensor(REACH[1]), reach)
        explained = explained * self.variance / (self.variance + noise)
        spread = (explained * (1 - explained) * self.variance).sqrt()
        true = self.frequencies @ (tokens - self.mean) @ self.components
        answer = explained * true + spread * torch.randn(true.shape, generator=generator)
        answer = self.mean + self.frequencies.T @ answer @ self.components.T
        return torch.where(clean < CLEAN, tokens, answer)
