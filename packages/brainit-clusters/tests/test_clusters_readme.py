"""The commands of the README have the names and options that the program has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from brainit_clusters.cli import app

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```\n(.*?)```", README.read_text().replace("\\\n", " "), re.DOTALL)
COMMANDS = [line for line in "".join(BLOCKS).splitlines() if line.startswith("brainit-clusters ")]


def test_the_path_is_there():
    steps = {line.split()[1] for line in COMMANDS}
    assert steps >= {"nsd", "encode", "fit", "plot", "describe", "compare", "transfer", "predict"}


@pytest.mark.parametrize("line", COMMANDS)
def test_command_is_understood(line):
    words = shlex.split(line, comments=True)[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)
