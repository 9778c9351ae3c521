# ruff: noqa: E402
"""From dataset.h5 to clusters, a new subject's clusters and predicted responses, in commands."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner

from brainit_clusters import VoxelClusters, encoder
from brainit_clusters.cli import app
from brainit_clusters.data.external import ExternalResponses
from brainit_clusters.embeddings import load_embeddings
from brainit_clusters.encoder import BrainEncoder, model, predict_subjects


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def folder(toy, tmp_path, monkeypatch):
    """Datasets of one and of two subjects; every backbone's name loads the same toy."""
    torch.manual_seed(0)
    backbone = toy.backbone()
    for module in (encoder, model):
        monkeypatch.setattr(module, "load_backbone", lambda *_: backbone, raising=False)
    sizes = {"n_voxels": 8, "n_images": 24}
    toy.write_world(tmp_path / "one.h5", n_subjects=1, **sizes)
    toy.write_world(tmp_path / "two.h5", n_subjects=2, **sizes)
    return tmp_path


def test_from_a_dataset_to_clusters(folder):
    first = ("encode", folder / "one.h5", "-o", folder / "a", "--taps", "1,3", "--epochs", 1)
    done = run(*first)
    assert done.exit_code == 0, done.output
    found = load_embeddings(folder / "a/embeddings.safetensors")
    known = BrainEncoder.from_pretrained(folder / "a")
    np.testing.assert_array_equal(found["subj01"], known.voxel_embedding("subj01").detach())
    scores = json.loads((folder / "a/scores.json").read_text())["subj01"]
    assert set(scores) == {
        "median_correlation",
        "upper_quarter_correlation",
        "median_fraction_of_ceiling",
    }
    assert run(*first).exit_code == 0  # the fit is read back, not done again
    np.testing.assert_array_equal(
        load_embeddings(folder / "a/embeddings.safetensors")["subj01"], found["subj01"]
    )

    new = ("--encoder", folder / "a", "--subject", "subj02", "--epochs", 1)
    done = run("encode", folder / "two.h5", "-o", folder / "b", *new)
    assert done.exit_code == 0, done.output
    assert list(load_embeddings(folder / "b/embeddings.safetensors")) == ["subj02"]
    old, fresh = (folder / name / "embeddings.safetensors" for name in "ab")
    clusters = folder / "clusters.safetensors"
    assert run("fit", old, "-k", 2, "-o", clusters).exit_code == 0
    done = run("transfer", clusters, old, fresh, "-o", folder / "moved.safetensors")
    assert done.exit_code == 0, done.output
    assert VoxelClusters.load(folder / "moved.safetensors").subjects == ("subj02",)

    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    output = folder / "external.h5"
    ask = ("predict", folder / "b", folder / "images.npy", "-o", output, "--image-size", 12)
    done = run(*ask)
    assert done.exit_code == 0, done.output
    truth = predict_subjects(BrainEncoder.from_pretrained(folder / "b"), images, ["subj02"])
    with ExternalResponses.open(output) as found:
        np.testing.assert_array_equal(found.images(), images)
        np.testing.assert_array_equal(found.responses("subj02"), truth["subj02"])
    done = run(*ask)
    assert (done.exit_code, "exists already" in done.output) == (1, True)


def test_mistakes_are_one_line(folder):
    done = run("encode", folder / "one.h5", "-o", folder / "c", "--subject", "subj01")
    assert done.exit_code == 1
    assert "--encoder and --subject go together" in done.output
    done = run("encode", folder / "none.h5", "-o", folder / "c")
    assert done.exit_code == 1
    assert "none.h5: no such file" in done.output
