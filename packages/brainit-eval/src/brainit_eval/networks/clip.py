"""OpenAI's CLIP ViT-L/14: the projected image embedding, not normalised to unit length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from brainit_eval.networks.base import LayerReader, with_seed
from brainit_eval.networks.weights import WeightFile, WeightStore, assign, random_record

_NORMALISATION = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_VISION = ("vision_model.", "visual_projection.")
_IDS = "vision_model.embeddings.position_ids"  # a constant that older files store

VIT_L14: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",  # OpenAI's; other CLIPs use the exact GELU
}


class ClipImages(LayerReader):
    """CLIP's image side; its only layer is the result."""

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """``image_embeds`` ``[n, 768]`` float32, of pictures of 224 px."""
        return {"image_embeds": self.network((images - self.mean) / self.std).image_embeds.float()}


def build(name: str, file: WeightFile, store: WeightStore | None) -> ClipImages:
    """Build it; ``store`` None gives random weights.

    Raises:
        ValueError: If the file is no CLIP ViT-L/14 in the layout of transformers.
    """
    network = with_seed(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VIT_L14)))
    if store is None:
        return ClipImages(network, random_record(network), _NORMALISATION)
    state, record = store.load(file)
    vision = {k: v.float() for k, v in state.items() if k.startswith(_VISION) and k != _IDS}
    assign(network, vision, file.name)
    return ClipImages(network, record, _NORMALISATION)
