"""What the README tells a newcomer to do and to open is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
from workspace import MEMBERS, ROOT

README = (ROOT / "README.md").read_text()
HATCH = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
SCRIPTS = HATCH["envs"]["default"]["scripts"]


@pytest.mark.parametrize("verb", ["demo", "test"])
def test_the_two_commands_are_on_the_first_screen(verb):
    first_screen = "\n".join(README.splitlines()[:25])
    assert f"pip install hatch && hatch run {verb}" in first_screen
    assert verb in SCRIPTS


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_hatch_command_exists(name):
    verbs = set(re.findall(r"hatch run ([a-z:-]+)", (ROOT / name).read_text()))
    commands = {command for member in MEMBERS for command in member.project.get("scripts", {})}
    scripts = {
        verb if env == "default" else f"{env}:{verb}"
        for env, settings in HATCH["envs"].items()
        for verb in settings["scripts"]
    }
    assert verbs - commands <= scripts
    assert {"lint", "types", "test"} <= verbs


@pytest.mark.parametrize(
    "page",
    [*sorted(ROOT.glob("*.md")), *(member.folder / "README.md" for member in MEMBERS)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_relative_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)|<img[^>]* src=\"([^\"]+)", page.read_text())
    local = [target for pair in targets for target in pair if target and "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_map_shows_every_member():
    for member in MEMBERS:
        assert f"({member.folder.relative_to(ROOT).as_posix()})" in README


def test_bench_without_a_name_lists_what_there_is():
    names = {path.stem for path in ROOT.glob("*/*/benchmarks/[!_]*.py")}
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / "bench.py"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert names <= set(re.split(r"[\s,]+", run.stderr))


def test_bench_refuses_an_unknown_name():
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / "bench.py", "nothing_of_this_name"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "nothing_of_this_name" in run.stderr
    assert "benchmarks:" in run.stderr
