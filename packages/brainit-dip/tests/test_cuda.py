"""On CUDA: the CPU's images, recorded steps that are steps, jitter of a seed."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from brainit_dip import InversionConfig, SkipConfig, VGGFeatures, invert

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# A recorded step keeps its learning rate in float32, so these are powers of two, which it holds
# exactly: 0.01, off by 2e-8 there, leads in 8 steps to images that differ by 4e-6.
SMALL = InversionConfig(
    image_size=32,
    network=SkipConfig(8, (16, 16), (16, 16), (4, 4)),
    steps=8,
    lr=2**-7,
    average_decay=0.5,
    jitter=0.0,
    batch_size=3,
)


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("network", [SMALL.network, None])
def test_cuda_gives_the_images_of_the_cpu(
    vgg: VGGFeatures, images: Tensor, network: SkipConfig | None, cuda_graph: bool
) -> None:
    vgg = vgg.double()
    maps = vgg(images.double())
    config = replace(SMALL, network=network, cuda_graph=cuda_graph)
    here = invert(maps, vgg, config)
    there = invert(maps, copy.deepcopy(vgg).cuda(), config)
    assert there.images.is_cuda
    # 8 Adam steps take targets off by 1e-14, as float64 sums in another order are, to images off
    # by 1e-11; images of other seeds differ by 0.1.
    torch.testing.assert_close(there.images.cpu(), here.images, rtol=0, atol=1e-9)
    torch.testing.assert_close(there.loss.cpu(), here.loss, rtol=1e-9, atol=0)


def test_images_may_leave_a_recorded_batch(vgg: VGGFeatures, images: Tensor) -> None:
    vgg = vgg.double().cuda()
    maps = vgg(images.double().cuda())
    # On the CPU they leave after 8 and 12 steps and not at all; no window is within 0.007 of it.
    config = replace(SMALL, steps=24, stop_window=4, stop_tolerance=0.08)
    plain, recorded = (invert(maps, vgg, replace(config, cuda_graph=g)) for g in (False, True))
    assert torch.equal(plain.steps, recorded.steps)
    assert plain.steps.tolist() == [8, 12, 24]
    # As above, over three times as many steps.
    torch.testing.assert_close(plain.images, recorded.images, rtol=0, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_lean_settings_lower_the_loss(vgg: VGGFeatures, images: Tensor, batch_size: int) -> None:
    vgg = vgg.cuda()
    own = {"image_size": 32, "network": SMALL.network, "lr": 2**-7, "batch_size": batch_size}
    config = InversionConfig.named("fast", steps=100, **own)
    result = invert(vgg(images.cuda()), vgg, config)
    # Kernels that add in no fixed order let repeated runs in bfloat16 part: on an H100 they ended,
    # at lr 0.01, between 0.25 and 0.72 of the first loss. Steps that do not step stay at 1.
    assert (result.loss[-1] < 0.9 * result.loss[0]).all()
    again = invert(vgg(images.cuda()), vgg, replace(config, steps=1))
    # bfloat16: one step of the same seed sees the same jitter.
    torch.testing.assert_close(again.loss[0], result.loss[0], rtol=0.02, atol=0)
