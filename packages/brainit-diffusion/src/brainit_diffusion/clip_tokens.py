"""CLIP image tokens: the patch outputs of the last block of an OpenCLIP vision transformer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, get_args

import open_clip
import torch
from torch import Tensor, nn

from brainit_diffusion.inputs import check_images
from brainit_diffusion.pixels import resize

Pixels = Literal["clip", "mindeye2"]
Precision = Literal["fp32", "bf16", "fp16"]


class ClipTokens(nn.Module):
    """The image side of an OpenCLIP model, as tokens to decode and as one embedding to compare.

    Args:
        visual: OpenCLIP's vision transformer.
        mean: Normalisation mean per colour channel.
        std: Normalisation standard deviation per colour channel.
        pixels: What the model sees of images in [0, 1] before the normalisation: "clip", them, as
            it was trained; "mindeye2", (x + 1) / 2 of them, as the public unCLIP checkpoint of
            MindEye2 (arXiv 2403.11207) is used, whose image encoder expects values in [-1, 1].
        final_norm: Whether tokens pass the model's last layer norm (`ln_post`), which comes before
            its pooling. By default they do not: tokens are the last block's output as it is. In
            OpenCLIP's own token output they do since 2.23, and that is what is fed to the public
            checkpoint.

    Raises:
        ValueError: If the model has no plain vision transformer, or `pixels` is neither.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        visual: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        pixels: Pixels = "clip",
        final_norm: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(visual, open_clip.transformer.VisionTransformer):
            raise ValueError(f"expected an OpenCLIP VisionTransformer, got {type(visual).__name__}")
        if pixels not in get_args(Pixels):
            raise ValueError(f"pixels {pixels!r}: expected clip or mindeye2")
        self.pixels, self.final_norm = pixels, final_norm
        self.visual: Any = visual.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @classmethod
    def load(
        cls,
        name: str,
        pretrained: str | None = None,
        *,
        precision: Precision = "fp32",
        pixels: Pixels = "clip",
        final_norm: bool = False,
    ) -> ClipTokens:
        """Load by OpenCLIP's names; the text side is dropped.

        Args:
            name: "local-dir:FOLDER", "hf-hub:ORG/REPO" or a model name such as "ViT-bigG-14".
            pretrained: For a model name: its weights' tag or file ("laion2b_s39b_b160k"); None
                means random weights.
            precision: Of weights and products; layer norms stay in float32.
            pixels: See the class.
            final_norm: See the class.

        Raises:
            FileNotFoundError: If a local folder does not hold a model.
            ValueError: If there are no weights, they are cut off or another model's, the model has
                no plain vision transformer, or `pixels` is neither.
        """
        scheme, _, folder = name.partition("local-dir:")
        if not scheme and not (Path(folder) / "open_clip_config.json").is_file():
            raise FileNotFoundError(f"{folder}: expected an OpenCLIP model (open_clip_config.json)")
        model = _read(name, pretrained, precision)
        config = open_clip.get_model_preprocess_cfg(model)
        return cls(
            model.visual, config["mean"], config["std"], pixels=pixels, final_norm=final_norm
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that images are resized to."""
        height, width = self.visual.image_size
        return int(height), int(width)

    @property
    def n_tokens(self) -> int:
        """Number of patch tokens, row by row from the top left (256 for ViT-bigG/14 at 224 px)."""
        rows, columns = self.visual.grid_size
        return int(rows * columns)

    @property
    def width(self) -> int:
        """Width of a token (1,664 for ViT-bigG/14)."""
        return int(self.visual.positional_embedding.shape[1])

    @torch.no_grad()
    def encode(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Patch tokens of the last block, without the class token, before pooling and projection.

        The last layer norm is applied to them with `final_norm`, and not by default.

        Args:
            images: In [0, 1] [B, 3, H, W], any size; resized (bicubic, antialiased) to a square.
            batch_size: Images at a time.

        Returns:
            Tokens [B, T, W], float32 on the images' device.
        """
        return self._batched(self._tokens, images, batch_size)

    @torch.no_grad()
    def embed(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Pooled and projected embedding [B, E] of images in [0, 1], of any length."""
        return self._batched(self.visual, images, batch_size)

    def fingerprint(self) -> str:
        """SHA-256 of all that decides the tokens: weights and their type, and conventions, hex."""
        moments = (self.mean.flatten().tolist(), self.std.flatten().tolist())
        conventions = (self.pixels, self.final_norm, self.image_size, *moments)
        digest = hashlib.sha256(repr(conventions).encode())
        for name, value in self.visual.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def _tokens(self, pixels: Tensor) -> Tensor:
        last = self.visual.forward_intermediates(
            pixels,
            indices=1,
            output_fmt="NLC",
            intermediates_only=True,
            normalize_intermediates=self.final_norm,
        )
        tokens: Tensor = last["image_intermediates"][0]
        return tokens

    def _batched(self, function: Any, images: Tensor, batch_size: int) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"images: expected float [B, 3, H, W], got {images.dtype} {tuple(images.shape)}"
            )
        check_images(images)
        parts = [function(self._pixels(part)).float() for part in images.split(batch_size)]
        return torch.cat(parts).to(images.device)

    def resize(self, images: Tensor) -> Tensor:
        """Images in [0, 1] [B, 3, H, W] in the model's size (bicubic, antialiased, clamped)."""
        return resize(images, self.image_size)

    def _pixels(self, images: Tensor) -> Tensor:
        """Resize and normalise, in float32 up to the end."""
        images = self.resize(images.to(self.mean))
        if self.pixels == "mindeye2":
            images = (images + 1) / 2
        return ((images - self.mean) / self.std).to(self.visual.conv1.weight.dtype)


def _read(name: str, pretrained: str | None, precision: Precision) -> Any:
    """OpenCLIP's model, and one kind of error for weights that are missing, cut off or others'."""
    # Without this it only warns, and leaves weights random.
    required = pretrained is not None or ":" in name
    try:
        return open_clip.create_model(
            name, pretrained=pretrained, precision=precision, require_pretrained=required
        )
    except OSError:
        raise
    except Exception as error:  # of safetensors, pickle, json, torch: they share no class
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{pretrained or name}: no whole OpenCLIP model of that name ({reason})"
        ) from error
