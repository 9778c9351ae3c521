from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from brainit_eval.metrics.registry import metric_of
from brainit_eval.pictures.resize import Resize
from brainit_eval.protocol import Protocol, frozen_protocols

functional = pytest.importorskip("torchvision.transforms.functional")

FROZEN = {  # a change of any choice is a new protocol under a new name, never a new hash
    "braindiffuser-982": "26f08826613cfe5e",
    "mindeye2-1000": "55f65a4cc3f63ace",
    "mindeye2-1000-aa": "9d3f658d9745dd83",
    "native-425": "d6739e89f1e593cb",
    "offline": "f2d52b3b1e21102d",
}

MINE = """
schema = 1
name = "mine"
title = "My own"
about = "Two metrics."
front = { size = 64, library = "tensor", filter = "bilinear", antialias = true }

[test_set]
n_images = 12

[metrics.ssim]
score = "ssim"

[metrics.late]
score = "two_way"
direction = "image_fixed"
network = "efficientnet_lite0"
weights = "imagenet"
layer = "late"
resize = { size = 64, library = "pil", filter = "lanczos", antialias = true }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_frozen_protocols_are_frozen() -> None:
    found = {name: Protocol.load(name).hash[:16] for name in frozen_protocols()}
    assert found.items() >= FROZEN.items()


def test_every_metric_of_a_frozen_protocol_has_a_label_and_the_same_direction() -> None:
    for name in frozen_protocols():
        for metric, spec in Protocol.load(name).metrics.items():
            assert metric_of(metric).higher_is_better == spec.higher_is_better


def test_the_hash_covers_every_choice_and_no_text(tmp_path: Path) -> None:
    protocol = Protocol.load(write(tmp_path, MINE))
    assert protocol.name == "mine"
    assert protocol.metrics["late"].direction == "image_fixed"
    renamed = MINE.replace('"mine"', '"other"').replace("Two metrics.", "Some more words.")
    assert Protocol.load(write(tmp_path, renamed)).hash == protocol.hash
    changes = (
        ("64, library", "65, library"),
        ("antialias = true", "antialias = false"),
        ("bilinear", "bicubic"),
        ('"lanczos"', '"bicubic"'),
        ("n_images = 12", "n_images = 13"),
        ("n_images = 12", "truth_size = 425"),
        ("n_images = 12", 'name = "other"\nn_images = 12'),
        ('score = "ssim"', 'score = "ssim_columns"'),
        ("metrics.ssim", "metrics.ssim2"),
        ("image_fixed", "reconstruction_fixed"),
        ('"late"\nresize', '"early"\nresize'),
    )
    hashes = {protocol.hash}
    for old, new in changes:
        changed = MINE.replace(old, new, 1)
        assert changed != MINE
        hashes.add(Protocol.load(write(tmp_path, changed)).hash)
    assert len(hashes) == 1 + len(changes)


def test_settings_are_plain_data_that_say_it_all(tmp_path: Path) -> None:
    protocol = Protocol.load(write(tmp_path, MINE))
    assert json.loads(json.dumps(protocol.settings)) == protocol.settings
    assert protocol.settings["metrics"]["late"]["resize"]["filter"] == "lanczos"
    assert protocol.only(("ssim",)).settings["metrics"] == {"ssim": {"score": "ssim"}}
    with pytest.raises(ValueError, match="has no metric 'clip'"):
        protocol.only(("clip",))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", "schema"),
        ("schema = 1", "", "schema"),
        ("schema = 1", "schema = true", "schema"),
        ('"mine"', '"../mine"', "name"),
        ('"mine"', '"<script>"', "name"),
        ('"My own"', '["!!python/object:os.system"]', "title"),
        ("n_images = 12", "n_images = 1", "n_images"),
        ("n_images = 12", 'n_images = "2**9"', "n_images"),
        ("n_images = 12", "n_images = nan", "n_images"),
        ("n_images = 12", "n_images = " + "9" * 5000, "TOML|n_images"),
        ("n_images = 12", "n_images = 12\nn_images = 12", "TOML"),
        ("n_images = 12", "images = 12", "unknown key 'images'"),
        ("[test_set]", "_target_ = 'os.system'\n[test_set]", "unknown key '_target_'"),
        ("[test_set]", "class_name = 'x'\n[test_set]", "unknown key"),
        ('score = "ssim"', 'score = "__import__"', "score"),
        ('score = "ssim"', 'score = "ssim"\nnetwork = "alexnet"', "unknown key 'network'"),
        ("metrics.ssim", 'metrics."a/b"', "metrics"),
        ("metrics.ssim", f'metrics."{"k" * (1 << 20)}"', "metrics|keys"),
        ('"efficientnet_lite0"', '"torch.hub"', "network"),
        ('"imagenet"', '"http://elsewhere"', "weights"),
        ('"late"\nresize', '"__dict__"\nresize', "layer"),
        ('"image_fixed"', '"both"', "direction"),
        ("size = 64", "size = 5000", "size"),
        ("size = 64", "size = 10", "size"),
        ("size = 64", "size = 64.0", "size"),
        ('"tensor"', '"$import"', "library"),
        ('"bilinear", antialias = true', '"bilinear"', "antialias"),
        ('"lanczos", antialias = true', '"lanczos", antialias = false', "pil always"),
        ('library = "pil"', 'library = "tensor"', "lanczos"),
        ('score = "two_way"', 'score = "perceptual_distance"', "perceptual"),
        (MINE, "", "schema"),
        (MINE, "\0", "TOML"),
        ("Two metrics.", "Two\\u202emetrics", "about"),
        ("[metrics.ssim]", "[metrics]\nssim = 3\n[metrics.x]", "table"),
    ],
)
def test_a_bad_protocol_is_one_clear_line(tmp_path, old: str, new: str, message: str) -> None:
    assert old in MINE
    with pytest.raises(ValueError, match=message) as caught:
        Protocol.load(write(tmp_path, MINE.replace(old, new, 1)))
    text = str(caught.value)
    assert "mine.toml" in text
    assert "\n" not in text
    assert len(text) < 400


def test_a_protocol_without_metrics_or_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected braindiffuser-982, mindeye2"):
        Protocol.load("nowhere")
    bare = MINE[: MINE.index("[metrics.ssim]")] + "[metrics]\n"
    with pytest.raises(ValueError, match="one metric or more"):
        Protocol.load(write(tmp_path, bare))


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [40, 96, 133])
def test_tensors_are_resized_as_torchvision_does(filter_: str, antialias: bool, size: int) -> None:
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    mode = functional.InterpolationMode(filter_)
    expected = functional.resize(images, [size, size], mode, antialias=antialias).clamp(0, 1)
    found = Resize(size, "tensor", filter_, antialias)(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic", "lanczos"])
def test_pictures_are_resized_as_torchvision_does_by_pillow(filter_: str) -> None:
    images = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    mode = functional.InterpolationMode(filter_)
    by_picture = [
        functional.to_tensor(functional.resize(functional.to_pil_image(x.byte()), [40, 40], mode))
        for x in images
    ]
    found = Resize(40, "pil", filter_)(images / 255)
    torch.testing.assert_close(found, torch.stack(by_picture), rtol=0, atol=0)


def test_a_picture_and_a_tensor_are_not_the_same() -> None:
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = [Resize(40, "tensor", antialias=aa)(images) for aa in (True, False)]
    assert (found[0] - found[1]).abs().max() > 0.05
    assert 0 < (found[0] - Resize(40, "pil")(images)).abs().max() <= 1.01 / 255
