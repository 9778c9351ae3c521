"""The feed-forward inverter: shapes, files, training that learns, resumes and repeats."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Bernoulli, kl_divergence

from brainit_dip import Inverter, InverterConfig, TrainingConfig, VGGFeatures, train_inverter
from brainit_dip import inverter_training as training_module
from brainit_dip.image_folder import RandomCrops, list_images, read_image
from brainit_dip.inverter_training import divergence

SHORT = TrainingConfig(steps=6, batch_size=2, width=4, blocks=1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures of plain colours and different shapes, one in a folder below."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for i, (name, size) in enumerate(
        {"a.png": (40, 60), "b.jpg": (64, 64), "c.png": (90, 50), "more/d.png": (33, 33)}.items()
    ):
        Image.new("RGB", size, (60 * i, 200 - 40 * i, 50)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize("thumbnail", [0, 8])
def test_images_have_the_size_of_the_finest_map(thumbnail: int) -> None:
    vgg = VGGFeatures([[4], [6], [8]], 20, thumbnail=thumbnail).freeze()
    inverter = Inverter(InverterConfig.of(vgg, width=4, blocks=1))
    found = inverter(vgg(torch.rand(2, 3, 20, 20)))
    assert found.shape == (2, 3, 20, 20)
    found.square().sum().backward()
    used = [p.grad is not None and bool(p.grad.any()) for p in inverter.exits.parameters()]
    assert all(used)  # every level takes part
    with pytest.raises(ValueError, match="maps: expected"):
        inverter(vgg(torch.rand(2, 3, 20, 20))[1:])


def test_files_give_the_same_inverter(tmp_path: Path, vgg: VGGFeatures, images: Tensor) -> None:
    model = Inverter(InverterConfig.of(vgg, width=4, blocks=1))
    model.calibrate(vgg(images))
    model.save(tmp_path / "model")
    loaded = Inverter.load(tmp_path / "model")
    assert torch.equal(model(vgg(images)), loaded(vgg(images)))
    assert loaded.config == model.config
    with pytest.raises(FileNotFoundError, match=r"config.json: no such file"):
        Inverter.load(tmp_path)
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="not an inverter"):
        Inverter.load(tmp_path / "model")


def test_training_lowers_the_error(pictures: Path, tmp_path: Path, vgg: VGGFeatures) -> None:
    config = TrainingConfig(steps=60, batch_size=8, lr=3e-3, width=8, blocks=1)
    model = train_inverter(pictures, tmp_path / "out", vgg, config)
    images = torch.stack([read_image(file, 32) for file in list_images(pictures)])
    error = (model(vgg(images)) - images).square().mean()
    # Better than the best that does not look at the features: the mean of the pictures.
    assert error < 0.5 * (images - images.mean((0, 2, 3), keepdim=True)).square().mean()
    assert not any(p.requires_grad for p in model.parameters())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
        "training.json",
    ]


def test_the_training_loss_is_the_divergence_of_bernoulli_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=generator)
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=generator)
    truth, found = Bernoulli(probs=images), Bernoulli(logits=logits)
    expected = kl_divergence(truth, found).mean()
    torch.testing.assert_close(divergence(logits, images), expected, rtol=1e-12, atol=0)
    assert abs(float(divergence(torch.logit(images), images))) < 1e-15
    assert float(divergence(torch.tensor([40.0, -40.0]), torch.tensor([1.0, 0.0]))) < 1e-15


def test_an_inverter_whose_outputs_are_all_0_or_1_still_learns() -> None:
    logits = torch.tensor([200.0, -200.0], requires_grad=True)
    images = torch.tensor([0.25, 0.25])
    assert torch.equal(torch.sigmoid(logits).detach(), torch.tensor([1.0, 0.0]))
    (gradient,) = torch.autograd.grad(divergence(logits, images), logits)
    # The difference of the values, over their number; of a squared error it would be zero.
    torch.testing.assert_close(gradient, torch.tensor([0.375, -0.125]))


def test_a_stopped_training_goes_on_to_the_same_end(
    pictures: Path, tmp_path: Path, vgg: VGGFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_module, "CHECKPOINT_EVERY", 2)
    whole = train_inverter(pictures, tmp_path / "whole", vgg, SHORT)
    step = training_module._Learner.step

    def stops(self: object, number: int, images: Tensor) -> None:
        if number == 5:
            raise KeyboardInterrupt
        step(self, number, images)

    with monkeypatch.context() as patch:
        patch.setattr(training_module._Learner, "step", stops)
        with pytest.raises(KeyboardInterrupt):
            train_inverter(pictures, tmp_path / "parts", vgg, SHORT)
    with pytest.raises(ValueError, match="of another training"):
        train_inverter(pictures, tmp_path / "parts", vgg, replace(SHORT, lr=1e-4))
    resumed = train_inverter(pictures, tmp_path / "parts", vgg, SHORT)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    texts = [(tmp_path / name / "training.json").read_text() for name in ("whole", "parts")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_step_and_loses_nothing(
    number: signal.Signals,
    pictures: Path,
    tmp_path: Path,
    vgg: VGGFeatures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train_inverter(pictures, tmp_path / "whole", vgg, SHORT)
    step, handler, taken = training_module._Learner.step, signal.getsignal(number), []

    def stopped(self: object, at: int, images: Tensor) -> None:
        if at == 3:
            signal.raise_signal(number)
        step(self, at, images)
        taken.append(at)

    monkeypatch.setattr(training_module._Learner, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_inverter(pictures, tmp_path / "parts", vgg, SHORT)
    assert signal.getsignal(number) == handler
    resumed = train_inverter(pictures, tmp_path / "parts", vgg, SHORT)
    assert taken == list(range(SHORT.steps))
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named(
    workers: int, pictures: Path, tmp_path: Path, vgg: VGGFeatures
) -> None:
    for file in list_images(pictures):
        file.write_bytes(b"no picture")
    with pytest.raises(OSError, match=r"^\S+\.(png|jpg): cannot be read as a picture"):
        train_inverter(pictures, tmp_path / "out", vgg, SHORT, workers)


def test_a_seed_decides(pictures: Path, tmp_path: Path, vgg: VGGFeatures) -> None:
    runs = [
        train_inverter(pictures, tmp_path / str(i), vgg, replace(SHORT, seed=seed)).state_dict()
        for i, seed in enumerate([0, 0, 1])
    ]
    name = "entries.0.weight"
    assert torch.equal(runs[0][name], runs[1][name])
    assert not torch.equal(runs[0][name], runs[2][name])
    # The units of the levels are those of the first batch, whatever follows.
    first = train_inverter(pictures, tmp_path / "first", vgg, replace(SHORT, steps=1))
    assert torch.equal(first.scales, runs[0]["scales"])
    assert (first.scales != 1).all()


def test_crops_depend_on_their_number_alone(pictures: Path) -> None:
    files = list_images(pictures)
    assert [f.name for f in files] == ["a.png", "b.jpg", "c.png", "d.png"]
    crops = RandomCrops(files, 16, seed=3)
    assert crops[7].shape == (3, 16, 16)
    assert torch.equal(crops[7], RandomCrops(files, 16, seed=3)[7])
    colours = {tuple(round(float(v), 1) for v in crops[i].mean((1, 2))) for i in range(40)}
    assert len(colours) == 4  # every picture is drawn


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no image"):
        list_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list_images(tmp_path / "none")


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch_size": 1},
        {"correlations": (0.6, 0.5)},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"precision": "float16"},
        {"seed": -1},
    ],
)
def test_bad_training_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(SHORT, **change)
