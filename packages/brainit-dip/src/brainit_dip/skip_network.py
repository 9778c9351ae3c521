"""The skip network of Deep Image Prior, as many independent copies run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

START_MARGIN = 0.01
"""Black and white stay this far from the ends of the sigmoid, where gradients vanish."""


@dataclass(frozen=True)
class SkipConfig:
    """Size of a skip network; the defaults are those of Brain-IT (arXiv 2510.25976).

    Attributes:
        input_channels: Channels of the noise image that the network reads.
        down: Channels of the downward convolutions, one per scale.
        up: Channels of the upward convolutions, one per scale.
        skip: Channels of the skip connections, one per scale.
    """

    input_channels: int = 32
    down: tuple[int, ...] = (128, 128, 128)
    up: tuple[int, ...] = (128, 128, 128)
    skip: tuple[int, ...] = (2, 2, 2)

    def __post_init__(self) -> None:
        """Raise ValueError unless all widths are positive and every scale has its three."""
        lengths = {len(self.down), len(self.up), len(self.skip)}
        if lengths == {0} or len(lengths) != 1:
            raise ValueError("down, up and skip: expected one width per scale in each")
        if min(self.input_channels, *self.down, *self.up, *self.skip) < 1:
            raise ValueError("input_channels, down, up and skip: expected positive widths")


class SkipNetwork(nn.Module):
    """Independent skip networks, one per generator, each applied to its own image.

    Architecture: Deep Image Prior (arXiv 1711.10925). At each scale a 1x1 skip branch runs beside a
    strided and a plain 3x3 convolution, the deeper scales and a bilinear upsampling; both are
    concatenated, normalised and merged by a 3x3 and a 1x1 convolution. Reflection padding,
    LeakyReLU 0.2, batch normalisation over the pixels of the one image, sigmoid output.

    The networks share nothing: every parameter is stacked over them ([N, ...]) and every
    convolution is grouped, so one call trains N networks.
    """

    start: Tensor | None

    def __init__(self, config: SkipConfig, generators: Sequence[torch.Generator]) -> None:
        """Draw the initial weights of network i from `generators[i]`, a CPU generator."""
        super().__init__()
        self.config = config
        self.body = _Scale(config, 0, generators)
        self.output = StackedConv2d(config.up[0], 3, 1, generators=generators)
        self.register_buffer("start", None)

    def start_from(self, images: Tensor) -> None:
        """Let the networks give these images [N, 3, S, S] in [0, 1] until they have learnt.

        Their logits are added to the output, whose own weights start at zero.
        """
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.start = torch.logit(images, eps=START_MARGIN)

    def forward(self, noise: Tensor) -> Tensor:
        """Images [N, 3, S, S] in (0, 1) of noise images [N, input_channels, S, S].

        Raises:
            ValueError: If the sides do not halve evenly to 2 or more at the coarsest scale.
        """
        step = 2 ** len(self.config.down)
        if any(side % step or side < 2 * step for side in noise.shape[2:]):
            sides = list(noise.shape[2:])
            raise ValueError(f"image size {sides}: expected multiples of {step} from {2 * step} up")
        logits: Tensor = self.output(self.body(noise)).to(noise.dtype)
        return torch.sigmoid(logits if self.start is None else logits + self.start)


class StackedConv2d(nn.Module):
    """N convolutions ("same", reflection padding), one for each image of a batch of N.

    Initial weights are those of `torch.nn.Conv2d`: uniform within 1/sqrt(fan in).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        generators: Sequence[torch.Generator],
    ) -> None:
        """Draw weights [N, outputs, inputs, kernel, kernel] and biases [N, outputs]."""
        super().__init__()
        bound = (inputs * kernel**2) ** -0.5
        self.weight = _uniform((outputs, inputs, kernel, kernel), bound, generators)
        self.bias = _uniform((outputs,), bound, generators)
        self.stride, self.padding = stride, kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        n = x.shape[0]
        if self.padding:
            x = F.pad(x, [self.padding] * 4, mode="reflect")
        flat = x.reshape(1, -1, *x.shape[2:])
        y = F.conv2d(flat, self.weight.flatten(0, 1), self.bias.flatten(), self.stride, groups=n)
        return y.view(n, -1, *y.shape[2:])


class StackedBatchNorm2d(nn.Module):
    """N batch normalisations in training mode, each over the pixels of its own image alone."""

    def __init__(self, channels: int, n: int) -> None:
        """Scale 1 and shift 0, each [N, channels]."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n, channels))
        self.bias = nn.Parameter(torch.zeros(n, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> the same shape."""
        flat = x.reshape(1, -1, *x.shape[2:])
        weight, bias = self.weight.flatten(), self.bias.flatten()
        return F.batch_norm(flat, None, None, weight, bias, training=True).view_as(x)


class _Block(nn.Sequential):
    """Convolution, batch normalisation, LeakyReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        generators: Sequence[torch.Generator],
        stride: int = 1,
    ) -> None:
        super().__init__(
            StackedConv2d(inputs, outputs, kernel, stride, generators=generators),
            StackedBatchNorm2d(outputs, len(generators)),
            nn.LeakyReLU(0.2),
        )


class _Scale(nn.Module):
    """One scale and all below it."""

    def __init__(self, config: SkipConfig, i: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        inputs = config.down[i - 1] if i else config.input_channels
        last = i + 1 == len(config.down)
        down, up, skip = config.down[i], config.up[i], config.skip[i]
        deep = down if last else config.up[i + 1]
        self.skip = _Block(inputs, skip, 1, generators)
        self.down = nn.Sequential(
            _Block(inputs, down, 3, generators, stride=2), _Block(down, down, 3, generators)
        )
        self.deeper = nn.Identity() if last else _Scale(config, i + 1, generators)
        self.merge = nn.Sequential(
            StackedBatchNorm2d(skip + deep, len(generators)),
            _Block(skip + deep, up, 3, generators),
            _Block(up, up, 1, generators),
        )

    def forward(self, x: Tensor) -> Tensor:
        deep = self.deeper(self.down(x))
        raised = F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
        merged: Tensor = self.merge(torch.cat([self.skip(x), raised], dim=1))
        return merged


def _uniform(
    shape: tuple[int, ...], bound: float, generators: Sequence[torch.Generator]
) -> nn.Parameter:
    """Uniform values in [-bound, bound], [N, *shape], row i from generator i."""
    rows = [torch.rand(prod(shape), generator=g) for g in generators]
    return nn.Parameter((2 * torch.stack(rows) - 1).mul(bound).view(len(rows), *shape))
