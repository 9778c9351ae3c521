"""NSD-synthetic and NSD-imagery as test-only datasets."""

from __future__ import annotations

import brainit_clusters_nsd_files as nsd
import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from brainit_clusters import BrainDataset
from brainit_clusters.data.nsd import ScanConfig, prepare_imagery, prepare_synthetic
from brainit_clusters.data.nsd.synthetic import square

HALF = 4 * 2.0**-11
CONFIG = ScanConfig(image_size=8)
MASKED = np.flatnonzero(nsd.MASK == 1)


def write_betas(tree, name, betas):
    for side in ("lh", "rh"):
        folder = tree.root / f"nsddata_betas/ppdata/subj02/fsaverage/{name}{nsd.BETAS}"
        nsd.write_mgh(folder / f"{side}.betas_{name}.mgh", betas[side])


@pytest.fixture
def synthetic(tree):
    rng = np.random.default_rng(1)
    order = rng.permutation(np.concatenate([np.arange(1, 285), rng.integers(1, 285, 16)]))
    path = tree.root / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"
    path.parent.mkdir(parents=True)
    scipy.io.savemat(path, {"masterordering": order[None].astype(float)})
    folder = tree.root / "nsddata_stimuli/stimuli/nsdsynthetic"
    folder.mkdir(parents=True)
    tree.images = {}
    for name, count in (("stimuli", 220), ("colorstimuli_subj02", 64)):
        tree.images[name] = rng.integers(0, 256, (count, 8, 14, 3), dtype=np.uint8)
        with h5py.File(folder / f"nsdsynthetic_{name}.hdf5", "w") as file:
            file["imgBrick"] = tree.images[name]
    tree.order = order
    tree.trials = {side: rng.normal(size=(10, 300)).astype(np.float32) for side in ("lh", "rh")}
    write_betas(tree, "nsdsynthetic", tree.trials)
    return tree


def rooted(stimuli):
    """The largest whole numbers whose squares, over 255, are not above the stored intensities."""
    table = [max(r for r in range(256) if r * r <= 255 * value) for value in range(256)]
    return np.array(table, np.uint8)[stimuli]


def test_synthetic(synthetic):
    path = prepare_synthetic(synthetic.root, synthetic.root / "syn.h5", CONFIG, "crop")
    with BrainDataset.open(path) as dataset:
        data = dataset.subject("subj02")
        images = dataset.images([0, 219, 220 + 64 + 5])
    assert set(data.split) == {"test"}
    common, own = (rooted(synthetic.images[name]) for name in ("stimuli", "colorstimuli_subj02"))
    np.testing.assert_array_equal(images[0], common[0][:, 3:11])
    np.testing.assert_array_equal(images[1], common[219][:, 3:11])
    np.testing.assert_array_equal(images[2], own[5][:, 3:11])
    trials = np.concatenate([synthetic.trials[s][MASKED] for s in ("lh", "rh")]).T.astype(float)
    z = (trials - trials.mean(0)) / trials.std(0)
    for row, image in enumerate(data.image_id):
        shown = synthetic.order - 1 == (image if image < 220 else image - 64)
        assert data.repeats[row] == shown.sum()
        np.testing.assert_allclose(data.betas[row], z[shown].mean(0), atol=HALF)


def test_synthetic_wants_to_know_how_images_become_square(synthetic):
    with pytest.raises(ValueError, match="fit is '', expected one of"):
        prepare_synthetic(synthetic.root, synthetic.root / "syn.h5", CONFIG, "")
    image = synthetic.images["stimuli"][0]
    padded = square(image, "pad")
    np.testing.assert_array_equal(padded[3:11], image)
    assert (padded[:3] == image[0, 0]).all()
    np.testing.assert_array_equal(square(image.transpose(1, 0, 2), "crop").shape, (8, 8, 3))


def test_synthetic_ids_are_one_based(synthetic):
    path = synthetic.root / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"
    scipy.io.savemat(path, {"masterordering": synthetic.order[None] - 1.0})
    with pytest.raises(ValueError, match=r"expdesign.mat: masterordering must hold 1 to 284"):
        prepare_synthetic(synthetic.root, synthetic.root / "syn.h5", CONFIG, "pad")


# The runs as public code that reads NSD-imagery has them, not as the package has them.
RUNS = [
    *(("visA", 48), ("attA", 96), ("imgA_1", 48), ("visB", 48), ("attB", 96), ("imgB_1", 48)),
    *(("visC", 48), ("attC", 96), ("imgC_1", 48), ("imgA_2", 48), ("imgB_2", 48), ("imgC_2", 48)),
]


@pytest.fixture
def imagery(tree):
    rng = np.random.default_rng(2)
    tree.trials = {side: rng.normal(size=(10, 720)).astype(np.float32) for side in ("lh", "rh")}
    write_betas(tree, "nsdimagery", tree.trials)
    folder = tree.root / "nsddata/bdata/nsdimagery"
    folder.mkdir(parents=True)
    tree.shown = []
    letters = {"A": "HRVLPE", "B": "WKBCDT", "C": "SZMYNF"}
    for run, length in RUNS:
        shown = rng.permutation(np.resize(list(letters[run[3]]), length))
        tree.shown += [(run, letter) for letter in shown]
        rows = [f"2\t{n}\t{letter}" for n, letter in enumerate(shown)]
        text = "\n".join(["SUBJECT\tTRIAL\tCONDITION", *rows]) + "\n"
        (folder / f"nsdimagery_subj02_{run}.tsv").write_text(text)
    (tree.root / "own").mkdir()
    lines = ["condition,image"]
    for letter in "HRVLPEWKBCDT":
        picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture.save(tree.root / f"own/{letter}.png")
        lines.append(f"{letter},{letter}.png")
    tree.table = tree.root / "own/images.csv"
    tree.table.write_text("\n".join(lines) + "\n")
    return tree


@pytest.mark.parametrize(("task", "runs"), [("vision", "vis"), ("imagery", "img")])
def test_imagery(imagery, task, runs):
    path = prepare_imagery(imagery.root, imagery.root / "i.h5", CONFIG, task, imagery.table)
    with BrainDataset.open(path) as dataset:
        data = dataset.subject("subj02")
        names = dataset.attributes["image_names"]
    assert set(data.split) == {"test"}
    assert data.attributes["conditions_left_out"] == sorted("SZMYNF")
    assert len(data.image_id) == 12
    trials = np.concatenate([imagery.trials[s][MASKED] for s in ("lh", "rh")]).T.astype(float)
    run_of = np.array([run for run, _ in imagery.shown])
    for run, _ in RUNS:
        now = run_of == run
        trials[now] = (trials[now] - trials[now].mean(0)) / trials[now].std(0)
    mine = np.array([run.startswith(runs) for run in run_of])
    for row, image in enumerate(data.image_id):
        shown = np.array([names[image] == f"{letter}.png" for _, letter in imagery.shown])
        assert data.repeats[row] == (shown & mine).sum() == (8 if task == "vision" else 16)
        np.testing.assert_allclose(data.betas[row], trials[shown & mine].mean(0), atol=HALF)


def test_imagery_with_a_log_that_is_too_short(imagery):
    path = imagery.root / "nsddata/bdata/nsdimagery/nsdimagery_subj02_visB.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"visB.tsv: 47 trials, expected 48"):
        prepare_imagery(imagery.root, imagery.root / "i.h5", CONFIG, "vision", imagery.table)
