"""Teaching cross-attention where to look: a training aid for short trainings of a small UNet.

Nothing marks a UNet's queries or CLIP's keys by place; a long training finds out by itself that the
tokens of a place are those that matter there. Here a loss says so: attention beyond the query's
neighbourhood costs. The trained model is an ordinary one.
"""

from __future__ import annotations

import threading
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

REACH = 0.17


class Guide:
    """Attention processor that notes how much attention falls near its query's place.

    One guide serves all cross-attentions of a UNet; each thread has its own notes.
    """

    def __init__(self, unet: nn.Module) -> None:
        self.notes: dict[int, list[Tensor]] = {}
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                module.set_processor(self)

    def take(self) -> Tensor:
        """Mean over layers of minus the log of the near mass, since this thread last asked."""
        return torch.stack(self.notes.pop(threading.get_ident())).mean()

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any
    ) -> Tensor:
        """Attend as usual, and note the mass; [B, queries, C] over [B, tokens, C]."""
        query, key, value = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        weights = ((query @ key.transpose(-1, -2)).float() * attn.scale).softmax(-1)
        near = neighbourhood(weights.shape[-2], weights.shape[-1])
        # Mass is averaged over heads first: some heads may look elsewhere.
        mass = (weights.mean(1) * near).sum(-1)
        notes = self.notes.setdefault(threading.get_ident(), [])
        notes.append(-mass.clamp_min(1e-6).log().mean())
        answer = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        result: Tensor = attn.to_out[0](answer)
        return result


def neighbourhood(queries: int, tokens: int) -> Tensor:
    """1 where a token lies within `REACH` sides of the query, else 0 [queries, tokens]."""
    places = []
    for count in (queries, tokens):
        side = isqrt(count)
        line = (torch.arange(side) + 0.5) / side
        places.append(torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2))
    gaps = (places[0][:, None] - places[1][None]).abs().amax(-1)
    return (gaps <= REACH).float()
