"""Cross-transformer: K brain tokens to image features by learned query tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class MLP(nn.Sequential):
    """LayerNorm, a linear widening by `ratio`, GELU, and back."""

    def __init__(self, dim: int, ratio: int) -> None:
        hidden = dim * ratio
        super().__init__(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
        )


class SelfAttentionBlock(nn.Module):
    """Pre-norm self-attention and MLP on the brain tokens.

    Args:
        dim: Width, D.
        n_heads: Heads; divides `dim`.
        mlp_ratio: Width of the MLP over `dim`.
    """

    def __init__(self, dim: int, n_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.projection = nn.Linear(dim, dim)
        self.mlp = MLP(dim, mlp_ratio)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map brain tokens [B, K, D] to brain tokens [B, K, D]."""
        parts = self.qkv(self.norm(tokens)).chunk(3, -1)
        query, key, value = (_to_heads(part, self.n_heads) for part in parts)
        mixed = _attend(query, key, value)
        tokens = tokens + self.projection(_from_heads(mixed))
        result: Tensor = tokens + self.mlp(tokens)
        return result


class CrossBlock(nn.Module):
    """The query tokens look at the brain tokens.

    The query tokens are their own attention queries, with no projection; keys and values are a
    bias-free linear of the normalised brain tokens (Brain-IT, arXiv 2510.25976).

    Args:
        dim: Width, D.
        n_heads: Heads; divides `dim`.
        mlp_ratio: Width of the MLP over `dim`.
    """

    def __init__(self, dim: int, n_heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(dim)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.projection = nn.Linear(dim, dim)
        self.mlp = MLP(dim, mlp_ratio)

    def forward(
        self, queries: Tensor, tokens: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Update the query tokens.

        Args:
            queries: Query tokens, [B, Q, D].
            tokens: Brain tokens, [B, K, D].
            return_attention: Whether to form and return the attention weights.

        Returns:
            Updated query tokens [B, Q, D], and the attention [B, heads, Q, K] or None.
        """
        key, value = (
            _to_heads(part, self.n_heads) for part in self.key_value(self.norm(tokens)).chunk(2, -1)
        )
        query = _to_heads(queries.to(key.dtype), self.n_heads)
        attention = None
        if return_attention:
            attention = _weights(query, key)
            mixed = attention @ value
        else:
            mixed = _attend(query, key, value)
        update = self.projection(_from_heads(mixed))
        updated: Tensor = queries + update + self.mlp(update)
        return updated, attention


def _weights(query: Tensor, key: Tensor) -> Tensor:
    """Attention weights of [B, heads, Q, E] over [B, heads, K, E]: [B, heads, Q, K]."""
    scale: float = query.shape[-1] ** -0.5
    weights: Tensor = (query @ (key * scale).mT).softmax(-1)
    return weights


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attended values, [B, heads, Q, E]."""
    training = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and training:
        # With few keys torch's fused CPU backward takes some ten times as long as this in bf16.
        return _weights(query, key) @ value
    return functional.scaled_dot_product_attention(query, key, value)


def _to_heads(tokens: Tensor, n_heads: int) -> Tensor:
    """[B, L, D] to [B, heads, L, D / heads]."""
    heads: Tensor = tokens.unflatten(-1, (n_heads, -1))
    return heads.transpose(1, 2)


def _from_heads(tokens: Tensor) -> Tensor:
    """[B, heads, L, D / heads] to [B, L, D]."""
    return tokens.transpose(1, 2).flatten(2)


class CrossTransformer(nn.Module):
    """A cross block, then rounds of self-attention on brain tokens and a cross block.

    Args:
        dim: Width, D.
        n_heads: Heads; divides `dim`.
        n_rounds: Rounds after the first cross block (Brain-IT: 5).
        mlp_ratio: Width of every MLP over `dim`.
        output_dim: Feature size.

    Attributes:
        gradient_checkpointing: Whether each block's inner activations are computed again in the
            backward pass instead of kept.
    """

    def __init__(
        self, dim: int, n_heads: int, n_rounds: int, mlp_ratio: int, output_dim: int
    ) -> None:
        super().__init__()
        sizes = (dim, n_heads, mlp_ratio)
        self.blocks = nn.ModuleList(SelfAttentionBlock(*sizes) for _ in range(n_rounds))
        self.cross_blocks = nn.ModuleList(CrossBlock(*sizes) for _ in range(n_rounds + 1))
        self.projection = nn.Linear(dim, output_dim)
        self.gradient_checkpointing = False

    def forward(
        self, queries: Tensor, tokens: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Read image features off the brain tokens.

        Args:
            queries: Query tokens, [B, Q, D].
            tokens: Brain tokens, [B, K, D].
            return_attention: Whether to return every cross block's attention.

        Returns:
            Features [B, Q, output_dim], and n_rounds + 1 maps [B, heads, Q, K] or None.
        """
        queries, attention = self._run(self.cross_blocks[0], queries, tokens, return_attention)
        maps: tuple[Tensor, ...] = (attention,)
        for block, cross_block in zip(self.blocks, self.cross_blocks[1:], strict=True):
            tokens = self._run(block, tokens)
            queries, attention = self._run(cross_block, queries, tokens, return_attention)
            maps += (attention,)
        features = self.projection(queries)
        return features, maps if return_attention else None

    def _run(self, block: nn.Module, *inputs: Tensor | bool) -> Any:
        if not self.gradient_checkpointing:
            return block(*inputs)
        # No block draws random numbers.
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
