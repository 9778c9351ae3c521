"""Stage 2: transformer and diffusion model learn together, and images are made by what they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest
import torch
from micro import brainit
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from brainit.adaptation import WEIGHTS
from brainit.cli import app
from brainit.models import resolve
from brainit.run_folder import RunFolder
from brainit.stages import joint
from brainit.stages.decoding import Samples
from brainit.stages.semantic import SemanticDecoder
from brainit_diffusion.unclip import UnCLIP

pytestmark = pytest.mark.slow
STAGE2 = (
    "rank=4",
    "gradient_checkpointing=false",
    "noise_offset=0.04",
    "dropout=0.0",
    "training.optimiser=adamw",
    "training.learning_rate=1e-4",
    "training.weight_decay=0.0",
    "training.batch_size=8",
    "training.accumulate=1",
    "training.epochs=2",
    "training.warmup_epochs=0",
    "training.schedule=cosine",
    "training.patience=5",
    "training.precision=no",
)


def settings(unet: str) -> list[str]:
    return [f"stage2.{one}" for one in (f"unet={unet}", *STAGE2)]


def command(unet: str) -> list[str]:
    return [part for one in settings(unet) for part in ("--set", one)]


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def loss(run: RunFolder, learnt: bool) -> float:
    """Denoising loss on the training images, of noises that stay the same."""
    unclip = UnCLIP.load(resolve("zoo:"))
    both = joint.both_of(run.profile, SemanticDecoder.load(run), unclip)
    if learnt:
        joint._put(both, load_file(run.output("joint", "model") / WEIGHTS))
    samples = Samples(run)
    held_out, samples.held_out = samples.held_out, lambda _: held_out("train")
    with torch.inference_mode():
        return -joint.JointTask(both.eval(), samples, unclip, run.profile).validate()["score"]


@pytest.mark.parametrize("unet", ["full", "low_rank"])
def test_both_learn_and_denoise_better(unet: str, run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    brainit("train", "--run", folder, "--stage", "joint", *command(unet))
    after = RunFolder(folder)
    old = SemanticDecoder.load(after), UnCLIP.load(resolve("zoo:"))
    new = joint.load(after)
    for before, now in zip((old[0], old[1].unet), (new[0], new[1].unet), strict=True):
        known, found = state(before), state(now)
        renamed = {name.replace(".base_layer", ""): value for name, value in found.items()}
        moved = [name for name, value in known.items() if not torch.equal(renamed[name], value)]
        assert bool(moved) == (unet == "full" or now is new[0])
        assert (found.keys() == known.keys()) == bool(moved)
    assert loss(after, learnt=True) < loss(after, learnt=False)


def test_images_are_made_by_what_learnt(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    said = brainit("train", "--run", folder, *command("full"))
    assert said.count("unchanged") == 6  # all but the joint stage
    said = brainit("reconstruct", "--run", folder)
    assert "coarse     unchanged" in said
    with h5py.File(run / "reconstructions.h5") as a, h5py.File(folder / "reconstructions.h5") as b:
        for name in a:
            assert (a[name]["coarse"][:] == b[name]["coarse"][:]).all()
            assert (a[name]["semantic"][:] != b[name]["semantic"][:]).any()
    new = tmp_path / "new"
    brainit("adapt", "--run", new, "--base", folder, "--subject", 3, "--trials", 60)
    own, base = joint.load(RunFolder(new)), joint.load(RunFolder(folder))
    assert state(own[1].unet).keys() == state(base[1].unet).keys()
    for name, value in state(own[1].unet).items():
        assert torch.equal(value, state(base[1].unet)[name]), name
    known = state(base[0])
    for name, value in state(own[0]).items():
        assert "subj03" in name or torch.equal(value, known[name]), name
    semantic = SemanticDecoder.load(RunFolder(new)).model.voxels("subj03").embedding
    assert not torch.equal(own[0].model.voxels("subj03").embedding, semantic)


def test_joint_without_its_settings_is_one_line(tmp_path: Path) -> None:
    arguments = ["train", "--run", str(tmp_path), "--profile", "tiny", "--stage", "joint"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert result.stderr == f"error: --stage joint: the profile of {tmp_path} has no [stage2]\n"
