"""Frozen image backbones, opened up block by block.

A vision transformer of transformers, open_clip or timm becomes the same three things: `embed`,
`blocks` and `tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A frozen vision transformer; it stays in evaluation mode.

    Args:
        name: What `load_backbone` was asked for.
        embedder: Holds the modules that `embed` needs.
        embed: normalised images [B, 3, S, S] -> tokens [B, 1 + n_registers + T, C].
        blocks: Transformer blocks, tokens -> tokens.
        width: C.
        image_size: S; images of another size are resized (bicubic, antialiased).
        n_patches: T.
        n_registers: Tokens between the class token and the patches; `tokens` drops them.
        mean, std: Of the three channels, in [0, 1].

    Attributes:
        n_tokens: Class token and patches, 1 + T.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        embedder: nn.Module,
        embed: Callable[[Tensor], Tensor],
        blocks: Sequence[nn.Module],
        *,
        width: int,
        image_size: int,
        n_patches: int,
        n_registers: int = 0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.name = name
        self.embedder = embedder
        self.blocks = nn.ModuleList(blocks)
        self.width, self.image_size = width, image_size
        self.n_tokens, self.n_registers = 1 + n_patches, n_registers
        self._embed = embed
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: the backbone is frozen."""
        return super().train(False)

    def embed(self, images: Tensor) -> Tensor:
        """Images to the tokens that the first block reads.

        Args:
            images: [B, 3, H, W] in [0, 1], RGB.

        Returns:
            [B, 1 + n_registers + T, C].

        Raises:
            ValueError: on another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(images.shape)}, expected (B, 3, H, W)")
        size = (self.image_size, self.image_size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        return self._embed((images - self.mean) / self.std)

    def tokens(self, x: Tensor) -> Tensor:
        """Drop the registers: [B, 1 + n_registers + T, C] -> [B, 1 + T, C]."""
        if not self.n_registers:
            return x
        return torch.cat((x[:, :1], x[:, 1 + self.n_registers :]), dim=1)


def load_backbone(name: str, image_size: int = 224) -> Backbone:
    """Load a backbone with its pretrained weights.

    Args:
        name: "dinov2:REPOSITORY_OR_FOLDER" (transformers, DINOv2 with registers),
            "transformers:REPOSITORY_OR_FOLDER" (ViT, DeiT, DINOv2 and others built alike),
            "open_clip:MODEL", "open_clip:MODEL/PRETRAINED", "open_clip:local-dir:FOLDER", or
            "timm:MODEL".
        image_size: Side in pixels for models that take any size (DINOv2); the others keep theirs.

    Raises:
        ValueError: on an unknown kind of name.
    """
    kind, _, model = name.partition(":")
    loaders = {
        "dinov2": _load_dinov2,
        "transformers": _load_transformers,
        "open_clip": _load_open_clip,
        "timm": _load_timm,
    }
    if kind not in loaders or not model:
        kinds = ", ".join(f"{known}:NAME" for known in loaders)
        raise ValueError(f"backbone {name!r} is none of {kinds}")
    return loaders[kind](name, model, image_size)


def _load_dinov2(name: str, model: str, image_size: int) -> Backbone:
    from transformers import Dinov2WithRegistersModel

    return from_dinov2(name, Dinov2WithRegistersModel.from_pretrained(model), image_size)


def _load_transformers(name: str, model: str, image_size: int) -> Backbone:
    from transformers import AutoModel
    from transformers.image_processing_base import ImageProcessingMixin

    settings, _ = ImageProcessingMixin.get_image_processor_dict(model)
    return from_transformers(name, AutoModel.from_pretrained(model), settings)


def _load_open_clip(name: str, model: str, image_size: int) -> Backbone:
    import open_clip

    local = model.startswith("local-dir:")
    architecture, _, tag = (model, "", "") if local else model.partition("/")
    # "openai" and the like choose weights of a named architecture; a folder brings its own.
    clip = open_clip.create_model(
        architecture, pretrained=tag or None, require_pretrained=not local
    )
    return from_open_clip(name, clip.visual)


def _load_timm(name: str, model: str, image_size: int) -> Backbone:
    import timm

    return from_timm(name, timm.create_model(model, pretrained=True, num_classes=0))


def from_dinov2(name: str, model: Any, image_size: int) -> Backbone:
    """Open a transformers `Dinov2WithRegistersModel`; position embeddings are interpolated."""
    config = model.config
    return Backbone(
        name,
        model.embeddings,
        model.embeddings,
        model.encoder.layer,
        width=config.hidden_size,
        image_size=image_size,
        n_patches=(image_size // config.patch_size) ** 2,
        n_registers=config.num_register_tokens,
    )


def from_transformers(name: str, model: Any, settings: Mapping[str, Any]) -> Backbone:
    """Open a vision transformer of transformers whose blocks take nothing but the tokens.

    Args:
        name: What it was loaded by.
        model: Has `embeddings`, and blocks in `layers` or `encoder.layer`.
        settings: Its image processor's: `image_mean`, `image_std`.

    Raises:
        ValueError: if it is built in another way.
    """
    config: Any = model.config
    embeddings: Any = getattr(model, "embeddings", None)
    blocks = getattr(model, "layers", None) or getattr(
        getattr(model, "encoder", None), "layer", None
    )
    positions = getattr(embeddings, "position_embeddings", None)
    if not isinstance(positions, Tensor) or not blocks or not isinstance(config.image_size, int):
        raise ValueError(f"backbone {name!r}: not built like transformers' ViT, DeiT or DINOv2")
    special = (getattr(embeddings, key, None) for key in ("distillation_token", "register_tokens"))
    return Backbone(
        name,
        embeddings,
        embeddings,
        blocks,
        width=config.hidden_size,
        image_size=config.image_size,
        n_patches=(config.image_size // config.patch_size) ** 2,
        n_registers=sum(token.shape[1] for token in special if token is not None),
        mean=settings.get("image_mean", IMAGENET_MEAN),
        std=settings.get("image_std", IMAGENET_STD),
    )


def from_open_clip(name: str, visual: Any) -> Backbone:
    """Open the image tower of an open_clip model (a `VisionTransformer`)."""
    if not hasattr(visual, "transformer") or not hasattr(visual, "_embeds"):
        raise ValueError(f"backbone {name!r}: its image tower is not open_clip's VisionTransformer")
    transformer = visual.transformer
    if not transformer.batch_first:
        raise ValueError(f"backbone {name!r}: its blocks are not batch first")
    settings = getattr(visual, "preprocess_cfg", {})
    side, _ = visual.image_size
    rows, columns = visual.grid_size
    return Backbone(
        name,
        _without(visual, "transformer", "ln_post", "attn_pool"),
        visual._embeds,
        transformer.resblocks,
        width=transformer.width,
        image_size=side,
        n_patches=rows * columns,
        mean=getattr(visual, "image_mean", None) or settings.get("mean", IMAGENET_MEAN),
        std=getattr(visual, "image_std", None) or settings.get("std", IMAGENET_STD),
    )


def from_timm(name: str, model: Any) -> Backbone:
    """Open a timm `VisionTransformer` that has a class token."""
    if not hasattr(model, "_pos_embed") or getattr(model, "cls_token", None) is None:
        raise ValueError(f"backbone {name!r}: not a timm vision transformer with a class token")
    blocks, settings = list(model.blocks), getattr(model, "pretrained_cfg", {})

    def embed(images: Tensor) -> Tensor:
        tokens: Tensor = model.norm_pre(model._pos_embed(model.patch_embed(images)))
        return tokens

    return Backbone(
        name,
        _without(model, "blocks", "norm", "head"),
        embed,
        blocks,
        width=model.embed_dim,
        image_size=model.patch_embed.img_size[0],
        n_patches=model.patch_embed.num_patches,
        n_registers=model.num_prefix_tokens - 1,
        mean=settings.get("mean", IMAGENET_MEAN),
        std=settings.get("std", IMAGENET_STD),
    )


def _without(model: Any, *parts: str) -> nn.Module:
    """The model less the parts that `embed` does not need, which would only take memory."""
    for part in parts:
        if getattr(model, part, None) is not None:
            setattr(model, part, None)
    module: nn.Module = model
    return module
