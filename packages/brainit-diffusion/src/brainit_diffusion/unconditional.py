"""Learned tokens for the unconditional side of classifier-free guidance."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class UnconditionalTokens(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """One learned set of tokens, for every image; a component of `BrainITPipeline`.

    `Stage2` trains them, in the place of the tokens that it drops. They begin random-normal, as the
    published unconditional tokens are: equal ones would get equal gradients and stay equal.

    Args:
        n_tokens: Number of tokens, T.
        width: Their width, W.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, n_tokens: int = 256, width: int = 1664) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(n_tokens, width))

    def forward(self, batch: int) -> Tensor:
        """The tokens, for each of `batch` images [batch, T, W]."""
        return self.tokens.expand(batch, -1, -1)
