"""The five feature maps of a VGG with batch normalisation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import get_model

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
OFFICIAL = ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")
LAYERS_PER_CONVOLUTION = 3  # itself, batch normalisation, ReLU


class VGGFeatures(nn.Module):
    """Images to the outputs of the last ReLU of each VGG stage (before the pooling).

    For VGG16-BN these are conv1_2, conv2_2, conv3_3, conv4_3 and conv5_3 (`features` 5, 12, 22, 32
    and 42 of torchvision), the targets of the low-level branch of Brain-IT (arXiv 2510.25976).
    Parameters are named as torchvision's, `features.N.weight`.

    Beyond the paper, a thumbnail of the image may be one more map, the last: colours and their
    layout, which features past a ReLU hold only in part.

    Attributes:
        widths: Channels of each stage's map.
        image_size: Side in pixels to which every image is resized.
        thumbnail: Side in pixels of the thumbnail; 0 is none.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: Sequence[Sequence[int]],
        image_size: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        thumbnail: int = 0,
    ) -> None:
        """Build with random weights.

        Args:
            channels: Widths of the convolutions of each stage; VGG16 is
                [[64, 64], [128, 128], [256] * 3, [512] * 3, [512] * 3].
            image_size: Side of the images that the network sees, in pixels.
            mean: Mean per colour channel, for images in [0, 1].
            std: Standard deviation per colour channel.
            thumbnail: Side of the thumbnail, 0 for none.
        """
        super().__init__()
        if not channels or not all(channels):
            raise ValueError(f"channels: expected stages of one or more widths, got {channels}")
        if image_size < 2 ** (len(channels) - 1):
            raise ValueError(f"image_size {image_size} is too small for {len(channels)} stages")
        if not 0 <= thumbnail <= image_size:
            raise ValueError(f"thumbnail: expected a side of 0 to {image_size}, got {thumbnail}")
        self.widths = tuple(stage[-1] for stage in channels)
        self.image_size, self.thumbnail = image_size, thumbnail
        self.features, self._taps = _stages(channels)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def map_shapes(self) -> list[tuple[int, int, int]]:
        """(channels, height, width) of each map."""
        sides = [self.image_size >> level for level in range(len(self.widths))]
        shapes = [(width, side, side) for width, side in zip(self.widths, sides, strict=True)]
        return [*shapes, (3, self.thumbnail, self.thumbnail)] if self.thumbnail else shapes

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images.

        Args:
            images: [B, 3, H, W] in [0, 1]; any size, resized (bicubic, antialiased) if not
                `image_size` square.

        Returns:
            One map [B, C, side, side] per stage, sides halved (rounded down) from stage to stage;
            then the thumbnail, if there is one, [B, 3, side, side] in the images' own values.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: expected [B, 3, H, W], got {list(images.shape)}")
        size = (self.image_size, self.image_size)
        if tuple(images.shape[2:]) != size:
            images = F.interpolate(images, size=size, mode="bicubic", antialias=True)
        x, maps = (images - self.mean) / self.std, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._taps:
                maps.append(x)
        if self.thumbnail:
            maps.append(F.adaptive_avg_pool2d(images, self.thumbnail))
        return maps

    def freeze(self) -> VGGFeatures:
        """Fold the batch normalisations into the convolutions, in place, for a fixed readout.

        The maps stay the same but for rounding. Afterwards the network can no longer be trained.
        """
        self.eval().requires_grad_(False)
        layers = list(self.features)
        for index, layer in enumerate(layers):
            if isinstance(layer, nn.BatchNorm2d):
                convolution = layers[index - 1]
                assert isinstance(convolution, nn.Conv2d)
                self.features[index - 1] = fuse_conv_bn_eval(convolution, layer)
                self.features[index] = nn.Identity()
        return self.requires_grad_(False)


def load_vgg(
    source: str | Path, thumbnail: int = 0, *, image_size: int | None = None
) -> VGGFeatures:
    """Load a VGG as a frozen float32 readout.

    Args:
        source: A torchvision name such as "vgg16_bn" (official ImageNet weights, fetched once by
            torchvision); a file of such weights, `.pth` or `.safetensors`; or a folder with
            `config.json` ("channels", "image_size", "mean", "std") and `model.safetensors`
            (torchvision names; tensors outside `features.` are not read).
        thumbnail: Side of the thumbnail that is the last map, 0 for none.
        image_size: Side of the images that the network sees; None is the folder's own, and 112
            for official weights, as in Brain-IT.

    Returns:
        The network in evaluation mode, batch normalisation folded in.

    Raises:
        FileNotFoundError: If there is no such name or file, or the folder lacks one of its files.
        ValueError: If the name or the configuration is not that of a VGG with batch normalisation.
    """
    if str(source) in OFFICIAL:
        state = get_model(str(source), weights="DEFAULT").features.state_dict()
        tensors = {f"features.{name}": value for name, value in state.items()}
        return _official(tensors, str(source), thumbnail, image_size)
    path = Path(source)
    if path.is_file():
        return _official(_read_tensors(path), str(path), thumbnail, image_size)
    for file in (path / "config.json", path / "model.safetensors"):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; expected a VGG folder or 'vgg16_bn'")
    try:
        config = json.loads((path / "config.json").read_text())
        settings = {key: config[key] for key in ("channels", "image_size", "mean", "std")}
        if image_size is not None:
            settings["image_size"] = image_size
        model = VGGFeatures(**settings, thumbnail=thumbnail)
    except KeyError as error:
        raise ValueError(f"{path / 'config.json'}: the key {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path / 'config.json'}: not a VGG's: {error}") from error
    weights = path / "model.safetensors"
    return _filled(model, _read_tensors(weights), weights)


def _official(
    tensors: dict[str, Tensor], source: str, thumbnail: int, image_size: int | None
) -> VGGFeatures:
    """A VGG of the depth and widths that tensors in torchvision's layout tell."""
    channels = _channels(tensors)
    if not channels:
        raise ValueError(f"{source}: expected torchvision's tensors of a VGG with batch norm")
    return _filled(VGGFeatures(channels, image_size or 112, thumbnail=thumbnail), tensors, source)


def _filled(model: VGGFeatures, tensors: dict[str, Tensor], source: str | Path) -> VGGFeatures:
    """The model with its tensors from a file, frozen."""
    try:
        model.load_state_dict({k: v for k, v in tensors.items() if k.startswith("features.")})
    except RuntimeError as error:
        message = " ".join(str(error).split())
        raise ValueError(f"{source}: not this VGG: {message}") from error
    return model.freeze()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict; of a `.pth`, torch reads tensors and nothing that runs."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, SafetensorError) as error:
        raise ValueError(f"{path}: not a file of torch tensors") from error
    if not isinstance(tensors, dict) or not all(isinstance(x, Tensor) for x in tensors.values()):
        raise ValueError(f"{path}: not a file of torch tensors by name")
    return tensors


def _stages(channels: Sequence[Sequence[int]]) -> tuple[nn.Sequential, frozenset[int]]:
    """The `features` of torchvision but the last pooling, and the indices of the tapped ReLUs."""
    layers: list[nn.Module] = []
    taps, previous = [], 3
    for stage in channels:
        if layers:
            layers.append(nn.MaxPool2d(2))
        for width in stage:
            layers += [nn.Conv2d(previous, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            previous = width
        taps.append(len(layers) - 1)
    return nn.Sequential(*layers), frozenset(taps)


def _channels(tensors: dict[str, Tensor]) -> list[list[int]]:
    """Widths per stage of torchvision's tensors: a pooling is a gap between two convolutions."""
    convolutions = {
        int(name.split(".")[1]): len(value)
        for name, value in tensors.items()
        if name.startswith("features.") and value.ndim == 4
    }
    stages: list[list[int]] = []
    following = 0
    for index, width in sorted(convolutions.items()):
        if index > following or not stages:
            stages.append([])
        stages[-1].append(width)
        following = index + LAYERS_PER_CONVOLUTION
    return stages
