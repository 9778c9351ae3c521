"""VGGFeatures against torchvision's own network, and loading."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from brainit_dip import VGGFeatures, load_vgg
from brainit_dip import vgg as vgg_module


def official(seed: int) -> SimpleNamespace:
    """The `features` of torchvision's VGG16-BN with random weights and statistics."""
    torch.manual_seed(seed)
    features = make_layers(cfgs["D"], batch_norm=True)
    for layer in features:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return SimpleNamespace(features=features.eval())


@torch.no_grad()
def test_vgg16_gives_torchvisions_activations_at_published_taps_and_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = official(0)
    monkeypatch.setattr(vgg_module, "get_model", lambda name, weights: model)
    images = torch.rand(1, 3, 112, 112)
    maps = load_vgg("vgg16_bn")(images)

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    expected = []
    for index, layer in enumerate(model.features):
        x = layer(x)
        if index in (5, 12, 22, 32, 42):
            expected.append(x)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 112, 112),
        (128, 56, 56),
        (256, 28, 28),
        (512, 14, 14),
        (512, 7, 7),
    ]
    for found, wanted in zip(maps, expected, strict=True):
        # Folding rounds each of 13 layers once more: 13 * 2^-24 of the largest value; 10x room.
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@torch.no_grad()
def test_a_thumbnail_is_one_more_map_and_changes_no_other(
    tmp_path: Path, trainable_vgg: VGGFeatures, images: Tensor
) -> None:
    folder = write(tmp_path, trainable_vgg)
    plain, more = load_vgg(folder), load_vgg(folder, thumbnail=8)
    *maps, thumbnail = more(images)
    assert all(torch.equal(a, b) for a, b in zip(plain(images), maps, strict=True))
    # Each pixel is the mean of 4x4 of the 32x32.
    expected = images.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))
    torch.testing.assert_close(thumbnail, expected)
    assert [tuple(x.shape[1:]) for x in (*maps, thumbnail)] == more.map_shapes()


@pytest.mark.parametrize("thumbnail", [-1, 33])
def test_a_thumbnail_has_a_side_within_the_image(thumbnail: int) -> None:
    with pytest.raises(ValueError, match="thumbnail: expected a side of 0 to 32"):
        VGGFeatures([[4], [4]], 32, thumbnail=thumbnail)


@torch.no_grad()
def test_freezing_changes_no_map(trainable_vgg: VGGFeatures, images: Tensor) -> None:
    vgg = trainable_vgg.double()
    before = vgg(images.double())
    after = copy.deepcopy(vgg).freeze()(images.double())
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)  # float64, 8 layers


def test_frozen_network_passes_gradients_to_images_alone(vgg: VGGFeatures, images: Tensor) -> None:
    assert not any(p.requires_grad for p in vgg.parameters())
    x = images.requires_grad_()
    sum(m.sum() for m in vgg(x)).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_other_sizes_are_resized_first(vgg: VGGFeatures) -> None:
    images = torch.rand(2, 3, 50, 41)
    small = torch.nn.functional.interpolate(images, (32, 32), mode="bicubic", antialias=True)
    for a, b in zip(vgg(images), vgg(small), strict=True):
        assert torch.equal(a, b)
    assert [tuple(m.shape[1:]) for m in vgg(images)] == vgg.map_shapes()


def write(folder: Path, model: VGGFeatures, **changes: object) -> Path:
    config = {
        "architecture": "vgg16_bn",
        "channels": [[8, 8], [12, 12], [16, 16, 16], [16]],
        "image_size": 32,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file(tensors | {"head.weight": torch.zeros(2, 16)}, folder / "model.safetensors")
    return folder


@torch.no_grad()
def test_folder_round_trip(tmp_path: Path, trainable_vgg: VGGFeatures, images: Tensor) -> None:
    loaded = load_vgg(write(tmp_path, trainable_vgg))
    trainable_vgg.half().float()  # the file holds float16
    normalised = (images - 0.5) / 0.25 * trainable_vgg.std + trainable_vgg.mean
    for a, b in zip(loaded(images), trainable_vgg(normalised), strict=True):
        assert a.dtype == torch.float32
        # Folding rounds each of 8 layers once more, as above.
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("depth", ["A", "D"])
def test_official_weights_from_a_file(tmp_path: Path, suffix: str, depth: str) -> None:
    torch.manual_seed(0)
    narrow = [width if width == "M" else width // 16 for width in cfgs[depth]]
    features = make_layers(narrow, batch_norm=True).eval()
    tensors = {f"features.{k}": v for k, v in features.state_dict().items()}
    tensors["classifier.0.weight"] = torch.zeros(3, 4)
    path = tmp_path / f"vgg{suffix}"
    torch.save(tensors, path) if suffix == ".pth" else save_file(tensors, path)
    vgg = load_vgg(path, image_size=48)
    assert vgg.map_shapes() == [(4, 48, 48), (8, 24, 24), (16, 12, 12), (32, 6, 6), (32, 3, 3)]
    images = torch.rand(1, 3, 48, 48)
    last = features[:-1]((images - vgg.mean) / vgg.std)
    # Folding rounds each of 13 layers once more, as above.
    torch.testing.assert_close(vgg(images)[-1], last, rtol=0, atol=1e-5 * float(last.max()))


def test_wrong_files_of_weights_are_named(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth: expected torchvision's tensors"):
        load_vgg(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no tensors")
    with pytest.raises(ValueError, match=r"text.pth: not a file of torch tensors"):
        load_vgg(tmp_path / "text.pth")
    plain = make_layers([4, "M", 4, "M"], batch_norm=False)
    torch.save({f"features.{k}": v for k, v in plain.state_dict().items()}, tmp_path / "no_bn.pth")
    with pytest.raises(ValueError, match=r"no_bn.pth: not this VGG"):
        load_vgg(tmp_path / "no_bn.pth")


def test_wrong_folders_are_named(tmp_path: Path, trainable_vgg: VGGFeatures) -> None:
    with pytest.raises(FileNotFoundError, match=r"config.json: no such file"):
        load_vgg(tmp_path)
    with pytest.raises(ValueError, match=r"model.safetensors: not this VGG"):
        load_vgg(write(tmp_path, trainable_vgg, channels=[[8], [12]]))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="'channels' is missing"):
        load_vgg(tmp_path)


def test_wrong_images_are_refused(vgg: VGGFeatures) -> None:
    with pytest.raises(ValueError, match=r"expected \[B, 3, H, W\]"):
        vgg(torch.rand(3, 32, 32))
