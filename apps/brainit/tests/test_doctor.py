"""The doctor says what is missing, and how much is needed, before hours are spent."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import psutil
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from rich.console import Console
from typer.testing import CliRunner

from brainit.cli import app
from brainit.doctor import machine, weights
from brainit.doctor.check import Check
from brainit.doctor.command import examine
from brainit.doctor.needs import Needs, clip_tokens, needs_of, parameters, vgg_tokens
from brainit.doctor.world import World, world_of
from brainit.pipeline import run_stages
from brainit.profile import Profile, load_profile
from brainit.run_folder import RunFolder

SMALL = (
    "simulation.subjects=2",
    "simulation.own_images=20",
    "simulation.shared_images=10",
    "simulation.external_images=10",
    "data.subjects=[1, 2]",
    "evaluation.subjects=[1, 2]",
)
NEEDS = Needs(disk={"prepare": 100}, scratch=0, memory=100, device=100)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    stages = ("simulate", "prepare")
    run_stages(RunFolder(folder, _tiny()), stages, Console(quiet=True))
    return folder


def _tiny(*overrides: str) -> Profile:
    return load_profile("tiny", [*SMALL, *overrides])


def _only(checks: Iterator[Check] | list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def test_what_is_simulated_and_prepared_takes_what_was_said(run: Path) -> None:
    profile = _tiny()
    world = world_of(profile, None)
    disk = needs_of(profile, world).disk
    written = sum(p.stat().st_size for p in (run / "nsd").rglob("*.mgh"))
    # ncsnr and HDF5's own bookkeeping come on top of what is counted; labels are small.
    assert disk["simulate"] == pytest.approx(written, rel=0.25)
    assert disk["prepare"] == pytest.approx((run / "dataset.h5").stat().st_size, rel=0.25)
    # The lower count is of voxels: some were dropped.
    prepared = world_of(profile, run)
    assert prepared.rows == world.rows
    assert prepared.images == world.images
    assert sum(world.voxels) - 20 < sum(prepared.voxels) <= sum(world.voxels)


def test_needs_of_the_published_sizes() -> None:
    profile = load_profile("nsd")
    assert vgg_tokens(profile) == (7190, 512)
    assert clip_tokens(profile) == (256, 1664)
    world = World((40_000,) * 8, (30_000,) * 8, (10_000,) * 8, 73_000, 120_000, "here")
    needs = needs_of(profile, world)
    assert needs.disk["prepare"] == 73_000 * 224 * 224 * 3 + 8 * 10_000 * 40_000 * 2
    assert needs.disk["external"] == 120_000 * (224 * 224 * 3 + 8 * 40_000 * 2)
    assert needs.scratch == 30_000 * 40_000 * 4
    both = {name: parameters(profile, name) for name in ("low_level", "semantic")}
    # Query tokens of 512 apiece, 128 clusters and the last layer, at the least.
    assert both["low_level"] > 7190 * 512 + 128 * 512 + 512 * 512
    embeddings = 8 * 40_000 * 512
    assert needs.device == 16 * (max(both.values()) + embeddings)


def test_a_run_that_is_ready_exits_with_0_and_says_so_in_json(run: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--run", str(run), "--json"])
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert result.exit_code == 0, result.stdout
    assert {check["state"] for check in checks.values()} <= {"ok", "warn"}
    assert "2 of 12 stages" in checks["run folder"]["found"]
    assert "prepared" in checks["scans"]["found"]


def test_a_missing_tree_exits_with_1_and_says_how_to_fetch_it(tmp_path: Path) -> None:
    arguments = [part for item in SMALL for part in ("--set", item)]
    nowhere = ["--set", f"data.root={tmp_path / 'nsd'}"]
    result = CliRunner().invoke(app, ["doctor", *arguments, *nowhere, "--json"])
    assert result.exit_code == 1
    found = _only([Check(**check) for check in json.loads(result.stdout)], "scans")
    assert found.state == "fail"
    assert "nsd_expdesign.mat" in found.found
    assert f"nsd download {tmp_path / 'nsd'} --subjects 1,2" in found.advice


def test_a_truncated_file_of_betas_is_named(run: Path, tmp_path: Path) -> None:
    tree = tmp_path / "nsd"
    for path in (run / "nsd").rglob("*"):
        if path.is_file():
            copy = tree / path.relative_to(run / "nsd")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    (cut,) = tree.rglob("subj02/**/lh.betas_session03.mgh")
    content = cut.read_bytes()
    cut.unlink()
    cut.write_bytes(content[:-1000])
    checks = examine(_tiny(f"data.root={tree}"), None)
    assert _only(checks, "scans: subj01").state == "ok"
    assert "10 sessions are whole" in _only(checks, "scans: subj01").found
    broken = _only(checks, "scans: subj02")
    assert broken.state == "fail"
    assert "lh.betas_session03.mgh" in broken.found


def test_outputs_that_are_gone_and_other_profiles_are_seen(run: Path, tmp_path: Path) -> None:
    moved = RunFolder(tmp_path, _tiny())
    moved.finish("clusters", "x", 0.0, {"clusters": tmp_path / "clusters.safetensors"})
    gone = _only(examine(_tiny(), tmp_path), "run folder")
    assert gone.state == "warn"
    assert "clusters are gone" in gone.found
    other = _only(examine(_tiny("seed=7"), run), "run folder")
    assert other.state == "warn"
    assert "another profile" in other.found


@pytest.mark.parametrize(("free", "state"), [(99, "fail"), (150, "warn"), (250, "ok")])
def test_gpu_memory(monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(machine, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 300))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    assert machine.check_device(NEEDS).state == state


@pytest.mark.parametrize(("has_it", "kind"), [(True, "bfloat16"), (False, "float32")])
def test_the_device_says_in_what_it_computes(
    monkeypatch: pytest.MonkeyPatch, has_it: bool, kind: str
) -> None:
    monkeypatch.setattr("brainit.computing.multiplies_bfloat16", lambda device: has_it)
    monkeypatch.setattr(machine, "device", lambda: torch.device("cpu"))
    assert f"precision auto is {kind}" in machine.check_device(NEEDS).found


def test_memory_and_disk_that_do_not_suffice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=99))
    assert machine.check_memory(NEEDS).state == "fail"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=99))
    assert machine.check_disk(tmp_path / "new", NEEDS, frozenset()).state == "fail"
    assert machine.check_disk(tmp_path / "new", NEEDS, frozenset({"prepare"})).state == "ok"
    assert not (tmp_path / "new").exists()


def test_versions_are_held_against_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {
        "brainit": ["brainit-bit[fast]>=0.1", "rich>=13", 'nothing; python_version < "3"'],
        "brainit-bit": ["torch>=2.10", 'triton>=9; extra == "fast"', 'mad; extra == "slow"'],
    }
    found = {"brainit-bit": "0.1.0", "rich": "12.5", "torch": "2.14.1", "triton": "3.1"}

    def version(name: str) -> str:
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: asked[name])
    monkeypatch.setattr(importlib.metadata, "version", version)
    check = machine.check_versions()
    assert check.state == "fail"
    assert check.found == "triton is 3.1, asked for >=9; rich is 12.5, asked for >=13"
    found |= {"rich": "13.1", "triton": "9.0"}
    assert machine.check_versions().state == "ok"


def test_weights_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nothing(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("not cached")

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    files = [("a.safetensors", 3 * 10**9), ("b.ckpt", 10**12), ("c.safetensors", 2 * 10**9)]
    siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in files]
    api = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    monkeypatch.setattr(api, "model_info", lambda *_, **__: SimpleNamespace(siblings=siblings))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    profile = load_profile("nsd")
    checks = weights.check_weights(profile)
    assert _only(checks, "weights: refiner").state == "warn"
    assert "up to 5.0 GB" in _only(checks, "weights: refiner").found
    assert "laion/CLIP-ViT-bigG-14" in _only(checks, "weights: clip").found
    assert "0.6 GB" in _only(checks, "weights: vgg").found
    assert _only(checks, "weights: unclip").state == "fail"
    monkeypatch.setattr(api, "model_info", unreachable)
    assert _only(weights.check_weights(profile), "weights: backbone").state == "fail"
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    assert _only(weights.check_weights(profile), "weights: backbone").state == "ok"
