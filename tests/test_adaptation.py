"""A new subject in a trained run: its embeddings are learnt, nothing else, from what was drawn."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import brainit
from safetensors.torch import load_file, save_file
from torch import nn

from brainit import engine
from brainit.adaptation import WEIGHTS
from brainit.profile import override
from brainit.run_folder import RunError, RunFolder
from brainit.stages import decoding
from brainit.stages import encoder as encoder_stage
from brainit_clusters.clusters import VoxelClusters
from brainit_clusters.data.dataset import BrainDataset

NEW, TRIALS = "subj03", 60
pytestmark = pytest.mark.slow


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def adapted(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[nn.Module]]:
    """The adapted run and the models as their trainings left them."""
    folder, trained = tmp_path_factory.mktemp("adapted"), []

    def train(task: Any, *arguments: Any) -> Any:
        figures = original(task, *arguments)
        trained.append(task.module)
        return figures

    before = hashes(run)
    original = engine.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "train", train)
        brainit("adapt", "--run", folder, "--base", run, "--subject", 3, "--trials", TRIALS)
    assert hashes(run) == before
    return folder, trained


def test_only_the_new_embeddings_have_learnt(
    run: Path, adapted: tuple[Path, list[nn.Module]]
) -> None:
    encoder, *decoders = adapted[1]
    base = RunFolder(run)
    models = [
        encoder_stage.load(base),
        *(decoding.load(base, s) for s in ("low_level", "semantic")),
    ]
    for new, old in zip([encoder, *decoders], models, strict=True):
        known, state = old.state_dict(), new.state_dict()
        for name, value in known.items():
            assert torch.equal(state[name], value), name
        assert all(NEW in name for name in state.keys() - known.keys())
    nearest = load_file(adapted[0] / "clusters.safetensors")["nearest"]
    for new, old in zip(decoders, models[1:], strict=True):
        start = torch.cat([old.voxels(name).by_voxel() for name in old.subjects])[nearest]
        learnt = new.voxels(NEW).by_voxel()
        assert learnt.shape == start.shape
        # A few steps of AdamW move each value by about the learning rate, 3e-3, a step.
        assert 1e-4 < float((learnt - start).abs().mean()) < 0.1


def test_what_was_learnt_loads_onto_the_base(adapted: tuple[Path, list[nn.Module]]) -> None:
    folder, (encoder, *decoders) = adapted
    run = RunFolder(folder)
    loaded = [encoder_stage.load(run), *(decoding.load(run, s) for s in ("low_level", "semantic"))]
    for new, trained in zip(loaded, [encoder, *decoders], strict=True):
        for name, value in trained.state_dict().items():
            assert torch.equal(new.state_dict()[name], value), name
    size = sum(path.stat().st_size for path in folder.rglob("embeddings.safetensors"))
    assert size < 4_000_000


def test_voxels_join_the_cluster_of_their_nearest_one(
    run: Path, adapted: tuple[Path, list[nn.Module]]
) -> None:
    path = adapted[0] / "clusters.safetensors"
    clusters, known = VoxelClusters.load(path), VoxelClusters.load(run / "clusters.safetensors")
    assert clusters.subjects == (NEW,)
    encoder = adapted[1][0]
    unit = {
        name: nn.functional.normalize(encoder.voxel_embedding(name).double())
        for name in (NEW, *known.subjects)
    }
    everyone = torch.cat([unit[name] for name in known.subjects])
    distance = torch.cdist(unit[NEW], everyone).detach()
    nearest = load_file(path)["nearest"]
    # float32 products of unit vectors err by 1e-6, in squared distance.
    gap = distance.gather(1, nearest[:, None])[:, 0] ** 2 - distance.min(1).values ** 2
    assert float(gap.max()) < 1e-5
    np.testing.assert_array_equal(clusters.labels, known.labels[nearest.numpy()])


def test_an_adapted_run_is_scored_like_any_other(adapted: tuple[Path, list[nn.Module]]) -> None:
    folder = adapted[0]
    for command in ("reconstruct", "evaluate", "report"):
        brainit(command, "--run", folder)
    scores = json.loads((folder / "scores.json").read_text())
    assert {"fused", "shuffled", "ridge"} <= set(scores)
    assert (folder / "report.html").stat().st_size > 10_000
    again = brainit("adapt", "--run", folder, "--base", RunFolder(folder).base.path,
                    "--subject", 3, "--trials", TRIALS)  # fmt: skip
    assert again.count("unchanged") == 7


def test_from_scratch_sees_the_same_scans(
    run: Path, adapted: tuple[Path, list[nn.Module]], tmp_path: Path
) -> None:
    """The limit is one of the data, with a base or without."""
    settings = ("data.subjects=[3]", f"data.trials={TRIALS}", f"data.root={run / 'nsd'}")
    assignments = [part for one in settings for part in ("--set", one)]
    brainit("prepare", "nsd", "--run", tmp_path, "--profile", run / "config.toml", *assignments)
    names = ("betas", "image_id", "split", "repeats")
    found = []
    for folder in (tmp_path, adapted[0]):
        with BrainDataset.open(folder / "dataset.h5") as dataset:
            subject = dataset.subject(NEW)
            found.append([getattr(subject, name) for name in names])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    split = found[0][2]
    # 60 trials, of which a fifth show test images, left aside.
    assert 40 <= found[0][3][split != "test"].sum() < TRIALS
    assert (split == "test").sum() == 10


def test_another_base_is_refused(
    run: Path, adapted: tuple[Path, list[nn.Module]], tmp_path: Path
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    for stage in ("encoder", "low_level"):
        weights = load_file(other / stage / WEIGHTS)
        next(iter(weights.values()))[..., 0] += 1
        save_file(weights, other / stage / WEIGHTS)
    profile = override(RunFolder(adapted[0]).profile, [f"adaptation.base={other}"])
    moved = RunFolder(shutil.copytree(adapted[0], tmp_path / "moved"), profile)
    decoding.load(moved, "semantic")
    for load in (encoder_stage.load, lambda run: decoding.load(run, "low_level")):
        with pytest.raises(RunError, match="trained with other weights than"):
            load(moved)


def test_what_cannot_be_adapted_is_one_clear_line(
    run: Path, adapted: tuple[Path, list[nn.Module]], tmp_path: Path
) -> None:
    wrong = {
        ("--base", run, "--subject", 1): "was trained on subject 1",
        ("--base", adapted[0], "--subject", 2): "is adapted itself",
        ("--base", tmp_path, "--subject", 3): "not a run folder",
        ("--base", run, "--subject", 3, "--minutes", 5, "--trials", 5): "one above 0 at most",
        ("--base", run, "--subject", 3, "--draw", "last"): "data.draw must be one of",
        ("--base", run, "--subject", 3, "--trials", 9999): "9999 trials to draw, there are 150",
    }
    for arguments, message in wrong.items():
        said = brainit("adapt", "--run", tmp_path / "new", *arguments, fails=True)
        assert message in said
        assert len(said.strip().splitlines()) == 1
    assert "is the base" in brainit(
        "adapt", "--run", run, "--base", run, "--subject", 3, fails=True
    )
