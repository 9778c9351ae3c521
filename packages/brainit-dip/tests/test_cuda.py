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

SMALL = InversionConfig(
    image_size=32,
    network=SkipConfig(8, (16, 16), (16, 16), (4, 4)),
    steps=8,
    lr=1e-2,
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
    # float64 rounding, grown by 8 Adam steps; images of other seeds differ by 0.1.
    torch.testing.assert_close(there.images.cpu(), here.images, rtol=0, atol=1e-6)
    torch.testing.assert_close(there.loss.cpu(), here.loss, rtol=1e-6, atol=0)


def test_images_may_leave_a_recorded_batch(vgg: VGGFeatures, images: Tensor) -> None:
    vgg = vgg.double().cuda()
    maps = vgg(images.double().cuda())
    config = replace(SMALL, steps=24, stop_window=4, stop_tolerance=0.06)
    plain, recorded = (invert(maps, vgg, replace(config, cuda_graph=g)) for g in (False, True))
    assert torch.equal(plain.steps, recorded.steps)
    assert len(set(plain.steps.tolist())) > 1
    torch.testing.assert_close(plain.images, recorded.images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_lean_settings_lower_the_loss(vgg: VGGFeatures, images: Tensor, batch_size: int) -> None:
    vgg = vgg.cuda()
    config = replace(InversionConfig.named("fast"), network=SMALL.network, steps=100, lr=1e-2)
    result = invert(vgg(images.cuda()), vgg, replace(config, batch_size=batch_size))
    assert (result.loss[-1] < 0.5 * result.loss[0]).all()
    again = invert(vgg(images.cuda()), vgg, replace(config, batch_size=batch_size, steps=1))
    # bfloat16: one step of the same seed sees the same jitter.
    torch.testing.assert_close(again.loss[0], result.loss[0], rtol=0.02, atol=0)
