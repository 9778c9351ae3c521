"""Run folders skip what is unchanged and find outputs by manifest; errors are one line."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from typer.testing import CliRunner

from brainit import pipeline
from brainit.cli import app
from brainit.models import resolve
from brainit.pipeline import STAGES, applicable, run_stages
from brainit.profile import load_profile
from brainit.run_folder import RunError, RunFolder, replacing

QUIET = Console(quiet=True)


def _fake_stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace every stage's work by writing one file, and list what ran."""
    ran: list[str] = []

    def load(name: str) -> ModuleType:
        stage = name.rpartition(".")[2]

        def work(run: RunFolder, fingerprint: str) -> dict[str, Path]:
            ran.append(stage)
            path = run.path / f"{stage}.txt"
            path.write_text(fingerprint)
            return {"file": path}

        module: Any = ModuleType(name)
        module.run = work
        return module

    monkeypatch.setattr(pipeline, "import_module", load)
    return ran


def test_stages_are_in_the_order_of_their_needs() -> None:
    done: set[str] = set()
    for stage in STAGES:
        assert set(stage.needs) <= done, stage.name
        done.add(stage.name)
    assert "simulate" not in [stage.name for stage in applicable(load_profile("nsd"))]


def test_only_changed_stages_and_what_reads_them_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = applicable(load_profile("tiny"))
    ran, names = _fake_stages(monkeypatch), [stage.name for stage in everything]
    run_stages(RunFolder(tmp_path, load_profile("tiny")), names, QUIET)
    assert ran == names
    ran.clear()
    run_stages(RunFolder(tmp_path, load_profile("tiny")), names, QUIET)
    assert ran == []
    run_stages(RunFolder(tmp_path, load_profile("tiny", ["image.steps=9"])), names, QUIET)
    assert ran == ["images", "evaluate", "report"]
    ran.clear()
    (tmp_path / "semantic.txt").unlink()
    run_stages(RunFolder(tmp_path), names, QUIET)
    assert ran == ["semantic"]


def test_missing_stage_and_missing_file_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_stages(monkeypatch)
    run = RunFolder(tmp_path, load_profile("tiny"))
    with pytest.raises(RunError, match="stage 'prepare' has not been run yet"):
        run.output("prepare", "dataset")
    run_stages(run, ["simulate"], QUIET)
    (tmp_path / "simulate.txt").unlink()
    with pytest.raises(RunError, match=r"simulate.txt: missing, though stage 'simulate' wrote it"):
        run.output("simulate", "file")


def test_manifest_says_how_it_was_made(tmp_path: Path) -> None:
    RunFolder(tmp_path, load_profile("tiny", ["seed=5"]))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 5
    assert {"python", "torch", "brainit"} <= set(manifest["versions"])
    assert load_profile(str(tmp_path / "config.toml")).seed == 5


def test_replacing_leaves_old_content_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def torn() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        torn()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_tiny_model_is_named() -> None:
    assert resolve("ViT-bigG-14") == "ViT-bigG-14"
    with pytest.raises(FileNotFoundError, match="zoo:resnet: no such tiny model"):
        resolve("zoo:resnet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--run", "{tmp}/none"], "not a run folder"),
        (["demo", "--run", "{tmp}/a", "--profile", "huge"], "no such profile"),
        (["demo", "--run", "{tmp}/a", "--set", "image.stepz=1"], "did you mean 'steps'"),
        (["train", "--run", "{tmp}/a", "--profile", "tiny", "--stage", "sleep"], "expected one of"),
        (["train", "--run", "{tmp}/a", "--profile", "tiny"], "has not been run yet"),
        (["prepare", "nsd", "--run", "{tmp}/a", "--profile", "nsd"], "nsd"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [a.replace("{tmp}", str(tmp_path)) for a in arguments])
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "dataset.h5")

    monkeypatch.setattr("brainit.pipeline.run_stages", full)
    result = CliRunner().invoke(app, ["demo", "--run", str(tmp_path)])
    assert result.exit_code == 1
    assert "disk full while writing dataset.h5" in result.stderr


def test_replaced_files_have_the_mode_of_other_new_files(tmp_path: Path) -> None:
    """safetensors makes its files for their owner alone; a lab shares a run folder."""
    (tmp_path / "ordinary").touch()
    with replacing(tmp_path / "tokens.safetensors") as temporary:
        save_file({"mean": torch.zeros(2)}, temporary)
    mode = (tmp_path / "tokens.safetensors").stat().st_mode
    assert mode == (tmp_path / "ordinary").stat().st_mode
