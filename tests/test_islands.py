"""Each package stands alone: its wheel, its declared libraries, and nothing else of ours."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from workspace import MEMBERS, PACKAGES, ROOT, Member

every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
every_package = pytest.mark.parametrize("member", PACKAGES, ids=lambda member: member.name)

# Imports that a declared library brings along although no installed distribution may own the name.
BROUGHT_BY = {"triton": "torch"}

IMPORT_ALL = """
import importlib, importlib.util, json, pkgutil, sys
name, others = sys.argv[1], sys.argv[2].split(",")
package = importlib.import_module(name)
light = sorted(sys.modules)
failed = []
for module in pkgutil.walk_packages(package.__path__, name + "."):
    if "triton" in module.name or module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except Exception as error:
        failed.append(f"{module.name}: {type(error).__name__}: {error}")
others = [other for other in others if importlib.util.find_spec(other)]
print(json.dumps({"file": package.__file__, "light": light, "failed": failed, "others": others}))
"""


def run(*command: object, cwd: Path = ROOT) -> str:
    """Run a command, and fail with what it said if it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def wheel_of(tmp_path_factory) -> Callable[[Member], Path]:
    """The wheel of a member, built once from its folder alone."""

    @cache
    def build(member: Member) -> Path:
        folder = tmp_path_factory.mktemp("wheel")
        command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
        run(*command, cwd=member.folder)
        (wheel,) = folder.glob("*.whl")
        return wheel

    return build


def clean_environment(folder: Path, *wheels: Path) -> Path:
    """A virtual environment with these wheels of ours, sharing only the third-party libraries.

    A folder named in a .pth file goes on the path, but the .pth files inside it (those of the
    workspace's editable packages among them) are not read: what is ours is only what we install.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*install, "--no-deps", "--no-index", *wheels)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    shared = sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
    (site / "third_party.pth").write_text("\n".join(dict.fromkeys(shared)) + "\n")
    return python


@pytest.fixture(scope="session")
def island_of(wheel_of, tmp_path_factory) -> Callable[[Member], Path]:
    """The interpreter of an environment that holds one member alone, made once."""
    return cache(
        lambda member: clean_environment(tmp_path_factory.mktemp("island"), wheel_of(member))
    )


@every_member
def test_wheel_holds_every_tracked_file(member: Member, wheel_of):
    tracked = run("git", "ls-files", "src", cwd=member.folder).splitlines()
    with zipfile.ZipFile(wheel_of(member)) as wheel:
        names = set(wheel.namelist())
    missing = [path for path in tracked if path.removeprefix("src/") not in names]
    assert missing == []
    assert not [name for name in names if name.startswith("tests/")]


@every_package
def test_wheel_alone_imports(member: Member, island_of):
    python = island_of(member)
    others = ",".join(other.module for other in MEMBERS if other != member)
    said = json.loads(run(python, "-I", "-c", IMPORT_ALL, member.module, others).splitlines()[-1])
    assert said["failed"] == []
    assert said["others"] == []
    assert Path(said["file"]).is_relative_to(python.parent.parent)
    optional = distributions_of_extras(member)
    heavy = {name.split(".")[0] for name in said["light"]} & optional
    assert not heavy, f"import {member.module} loads {heavy}, which only extras bring"


@every_package
def test_own_tests_need_no_other_package(member: Member, island_of):
    python = island_of(member)
    tests = member.folder / "tests"
    options = ("--collect-only", "-q", "--import-mode=importlib", "-p", "no:cacheprovider")
    run(python, "-I", "-m", "pytest", *options, "-c", ROOT / "pyproject.toml", tests)


def test_app_starts_from_the_wheels(wheel_of, tmp_path):
    python = clean_environment(tmp_path / "app", *map(wheel_of, MEMBERS))
    assert "demo" in run(python.parent / "brainit", "--help")


def test_help_loads_no_model_library():
    check = "import sys, brainit.cli; print(*sys.modules)"
    loaded = set(run(sys.executable, "-c", check).split())
    assert loaded.isdisjoint({"diffusers", "open_clip", "timm", "transformers", "torchvision"})


def imported(tree: ast.AST) -> Iterator[str]:
    """Top-level names of what a module imports from outside, wherever in the file it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]


def normalised(requirement: str) -> str:
    """The distribution that a requirement names: ``"Open_CLIP[x]>=3"`` -> ``open-clip``."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement.strip())[0]).lower()


@cache
def distributions() -> dict[str, set[str]]:
    """Import name -> the installed distributions that provide it."""
    found = packages_distributions()
    owners = {name: {normalised(owner) for owner in owners} for name, owners in found.items()}
    return owners | {member.module: {member.name} for member in MEMBERS}


def distributions_of_extras(member: Member) -> set[str]:
    """Import names that come with a member's extras and not with its plain dependencies."""
    plain = {normalised(each) for each in member.project.get("dependencies", [])}
    groups = member.project.get("optional-dependencies", {}).values()
    extra = {normalised(each) for group in groups for each in group} - plain
    return {name for name, owners in distributions().items() if owners & extra}


@every_member
def test_every_import_is_declared(member: Member):
    extras = member.project.get("optional-dependencies", {}).values()
    groups = [member.project.get("dependencies", []), *extras]
    declared = {normalised(requirement) for group in groups for requirement in group}
    undeclared = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in member.python_files()
        for name in sorted(set(imported(ast.parse(path.read_text()))))
        if name not in sys.stdlib_module_names
        and name != member.module
        and not declared & (distributions().get(name, set()) | {BROUGHT_BY.get(name, "")})
    ]
    assert not undeclared, "\n".join(undeclared)
