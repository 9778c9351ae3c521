"""The guide's commands have the names and options that the programs have; its Python runs."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from accelerate.commands.launch import launch_command_parser
from PIL import Image
from typer.main import get_command
from workspace import ROOT

GUIDE = (ROOT / "docs" / "nsd.md").read_text()
PROGRAMS = {name: name.replace("-", "_") for name in ("brainit", "brainit-clusters")}
PROGRAMS["brainit-diffusion"] = "brainit_diffusion"
LAUNCH = "accelerate launch "


def _blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", GUIDE, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def _lines() -> list[str]:
    return "".join(_blocks("sh")).replace("\\\n", " ").splitlines()


def _commands() -> list[str]:
    """Every command of ours, also those behind a launcher or in `sbatch --wrap`."""
    found = []
    for line in _lines():
        if launched := re.search(r'"\$\(command -v brainit\)" (.*?)(?:\'| &)?$', line):
            found.append(f"brainit {launched[1]}")
        elif wrapped := re.search(r'--wrap "(brainit .*)"$', line):
            found.append(wrapped[1])
        elif line.startswith("brainit"):
            found.append(re.sub(r" *(#|\|\|).*$", "", line))
    return found


COMMANDS = _commands()
LAUNCHES = [line for line in _lines() if LAUNCH in line]


def test_the_way_is_there() -> None:
    steps = {" ".join(shlex.split(line)[:2]) for line in COMMANDS}
    assert steps >= {
        "brainit doctor",
        "brainit prepare",
        "brainit train",
        "brainit reconstruct",
        "brainit evaluate",
        "brainit report",
        "brainit adapt",
        "brainit experiment",
    }
    assert len(LAUNCHES) == 2


@pytest.mark.parametrize("line", COMMANDS)
def test_command_is_understood(line: str) -> None:
    program, *words = shlex.split(line)
    command = get_command(import_module(f"{PROGRAMS[program]}.cli").app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    if "--help" not in words:
        command.make_context(command.name, words)


@pytest.mark.parametrize("line", LAUNCHES)
def test_launcher_is_understood(line: str) -> None:
    plain = line.partition(LAUNCH)[2].replace("$SLURM_NODEID", "1").replace("$(command -v ", "(")
    words = shlex.split(re.sub(r"'$| &$", "", plain))
    arguments = launch_command_parser().parse_args(words)
    assert arguments.training_script == "(brainit)"
    assert arguments.training_script_args[0] == "train"
    assert arguments.num_processes > 1


def test_settings_that_commands_override_exist() -> None:
    from brainit.profile import load_profile

    words = [word for line in COMMANDS for word in shlex.split(line)]
    sets = [value for flag, value in pairwise(words) if flag == "--set"]
    assert len(sets) > 3
    for assignment in sets:
        load_profile("nsd", [assignment])


def test_external_images_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unlabeled2017").mkdir()
    for name, size in (("b", (300, 240)), ("a", (90, 400))):
        Image.new("RGB", size, (10, 200, 30)).save(f"unlabeled2017/{name}.jpg", quality=95)
    (block,) = _blocks("python")
    exec(compile(block, "docs/nsd.md", "exec"), {})
    with h5py.File("external_images.hdf5") as file:
        images = file["images"][:]
    assert images.shape == (2, 224, 224, 3)
    assert images.dtype == np.uint8
    np.testing.assert_allclose(images.mean((0, 1, 2)), (10, 200, 30), atol=4)  # JPEG rounds
