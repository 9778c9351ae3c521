"""SkipNetwork against a plain network of torch's own layers, one image at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brainit_dip import SkipConfig, SkipNetwork


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, padding_mode="reflect"
    )
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]


class PlainScale(nn.Module):
    """One scale of Deep Image Prior's skip network, from torch's own layers."""

    def __init__(self, inputs: int, widths: list[tuple[int, int, int]]) -> None:
        super().__init__()
        (down, up, skip), below = widths[0], widths[1:]
        deep = below[0][1] if below else down
        self.skip = nn.Sequential(*block(inputs, skip, 1))
        self.down = nn.Sequential(*block(inputs, down, 3, 2), *block(down, down, 3))
        self.deeper = PlainScale(down, below) if below else nn.Identity()
        self.merge = nn.Sequential(
            nn.BatchNorm2d(skip + deep), *block(skip + deep, up, 3), *block(up, up, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        deep = F.interpolate(self.deeper(self.down(x)), scale_factor=2, mode="bilinear")
        return self.merge(torch.cat([self.skip(x), deep], 1))


def plain(config: SkipConfig) -> nn.Module:
    widths = list(zip(config.down, config.up, config.skip, strict=True))
    return nn.Sequential(
        PlainScale(config.input_channels, widths), nn.Conv2d(config.up[0], 3, 1), nn.Sigmoid()
    )


@pytest.mark.parametrize(
    "config",
    [
        SkipConfig(5, (6, 7, 8), (4, 5, 6), (1, 2, 3)),
        SkipConfig(4, (8,), (8,), (2,)),
    ],
)
def test_each_network_equals_a_plain_one(config: SkipConfig) -> None:
    network = SkipNetwork(config, generators(0, 1, 2)).double()
    noise = torch.rand(3, config.input_channels, 32, 16, dtype=torch.float64)
    images = network(noise)
    images.square().sum().backward()
    for i in range(3):
        reference = plain(config).double()
        stacked, own = list(network.parameters()), list(reference.parameters())
        for a, b in zip(own, stacked, strict=True):
            a.data.copy_(b.data[i])
        wanted = reference(noise[i : i + 1])
        wanted.square().sum().backward()
        # float64 through at most 20 layers.
        torch.testing.assert_close(images[i : i + 1], wanted, rtol=1e-9, atol=1e-11)
        for a, b in zip(own, stacked, strict=True):
            torch.testing.assert_close(b.grad[i], a.grad, rtol=1e-7, atol=1e-10)


def test_published_size() -> None:
    network = SkipNetwork(SkipConfig(), generators(0))
    # By hand, convolution + normalisation. Scale 1 reads 32 channels, scales 2 and 3 read 128.
    first = (32 * 2 + 2) + 4 + (32 * 128 * 9 + 128) + 256
    other = (128 * 2 + 2) + 4 + (128 * 128 * 9 + 128) + 256
    shared = (128 * 128 * 9 + 128) + 256 + 2 * 130  # second downward convolution, merging norm
    shared += (130 * 128 * 9 + 128) + 256 + (128 * 128 + 128) + 256
    total = first + 2 * other + 3 * shared + (128 * 3 + 3)
    assert sum(p.numel() for p in network.parameters()) == total == 1_278_945
    shapes = []
    for name, module in network.named_modules():
        if name.endswith("down.1.0"):
            module.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape)))
    with torch.no_grad():
        images = network(torch.rand(1, 32, 224, 224) * 0.1)
    assert images.shape == (1, 3, 224, 224)
    assert images.min() > 0
    assert images.max() < 1
    assert shapes == [(1, 128, 112, 112), (1, 128, 56, 56), (1, 128, 28, 28)]


def test_weights_are_those_of_a_seed() -> None:
    config = SkipConfig(4, (8, 8), (8, 8), (2, 2))
    pair = SkipNetwork(config, generators(7, 8)).state_dict()
    single = SkipNetwork(config, generators(8)).state_dict()
    for name, value in single.items():
        assert torch.equal(pair[name][1], value[0])
        if not name.endswith(("1.weight", "1.bias")) and "merge.0" not in name:  # normalisations
            assert not torch.equal(pair[name][0], pair[name][1])
    convolution = SkipNetwork(SkipConfig(), generators(0)).body.down[1][0]
    bound = (128 * 9) ** -0.5  # torch.nn.Conv2d: uniform within 1 / sqrt(fan in)
    assert convolution.weight.abs().max() <= bound
    # 147,456 draws: the standard deviation of their standard deviation is below 0.2 %.
    assert abs(float(convolution.weight.detach().std()) / (bound / 3**0.5) - 1) < 0.01


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one width per scale"):
        SkipConfig(down=(8, 8))
    with pytest.raises(ValueError, match="positive"):
        SkipConfig(skip=(2, 0, 2))
    network = SkipNetwork(SkipConfig(4, (8, 8), (8, 8), (2, 2)), generators(0))
    with pytest.raises(ValueError, match="multiples of 4 from 8"):
        network(torch.rand(1, 4, 30, 32))
