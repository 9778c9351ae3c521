"""Rules that hold in every package: who imports whom, nothing pickled, versions that agree."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from workspace import MEMBERS, ROOT, Member

every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)

# Modules that run code from the bytes they read.
PICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}

HARMLESS = {"UnpicklingError"}  # what torch.load raises where weights_only refuses a file


def test_import_contract_is_kept():
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command, "import-linter is not installed in the environment that runs the tests"
    run = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 kept, 0 broken" in run.stdout


def keyword(call: ast.Call, name: str) -> object:
    """The constant that a call passes for ``name``, or None."""
    for argument in call.keywords:
        if argument.arg == name and isinstance(argument.value, ast.Constant):
            return argument.value.value
    return None


def call_fault(call: ast.Call) -> str | None:
    """What is wrong with a call, or None."""
    name = ast.unparse(call.func)
    if name in {"eval", "exec", "compile", "__import__"}:
        return f"{name}() runs text as code"
    if name == "torch.save":
        return "torch.save pickles; write safetensors"
    if name == "torch.load" and keyword(call, "weights_only") is not True:
        return "torch.load without weights_only=True"
    passed = {argument.arg for argument in call.keywords}
    if "allow_pickle" in passed and keyword(call, "allow_pickle") is not False:
        return f"{name} with allow_pickle"
    if "trust_remote_code" in passed and keyword(call, "trust_remote_code") is not False:
        return f"{name} with trust_remote_code"
    return None


def names(node: ast.ImportFrom) -> set[str]:
    """What an import takes from a module."""
    return {alias.name for alias in node.names}


def faults(tree: ast.AST) -> Iterator[str]:
    """Every way in which a module could run code from a file, with its line."""
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and names(node) != HARMLESS:
            modules = [node.module or ""]
        yield from (
            f"line {node.lineno}: imports {module}"
            for module in modules
            if module.split(".")[0] in PICKLING
        )
        if isinstance(node, ast.Call) and (fault := call_fault(node)):
            yield f"line {node.lineno}: {fault}"


@every_member
def test_nothing_runs_code_from_a_file(member: Member):
    found = [
        f"{path.relative_to(ROOT)}, {fault}"
        for path in member.python_files()
        for fault in faults(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from pickle import UnpicklingError, loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "torch.save(state, path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "eval('2 + 2')",
        "def f():\n    exec(text)",
    ],
)
def test_the_check_sees_what_it_forbids(source: str):
    assert len(list(faults(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "re.compile('a')",
        "from pickle import UnpicklingError",
    ],
)
def test_the_check_lets_plain_code_pass(source: str):
    assert list(faults(ast.parse(source))) == []


@every_member
def test_version_is_the_newest_in_the_changelog(member: Member):
    about = (member.source / "__about__.py").read_text()
    version = re.search(r'^__version__ = "([^"]+)"$', about, re.MULTILINE)
    entries = re.findall(
        r"^## \[?(\d[^\]\s]*)", (member.folder / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert version
    assert version[1] == entries[0]


@every_member
def test_member_is_complete(member: Member):
    assert member.project["name"] == member.name
    assert member.project["license"] == "Apache-2.0"
    assert (member.folder / "README.md").stat().st_size > 0
    assert (member.source / "py.typed").is_file()
    assert list((member.folder / "tests").glob("test_*.py"))
