"""Files are written whole or not at all, and what cannot be written is said before the work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from brainit_eval.cli import app
from brainit_eval.protocol import Protocol
from brainit_eval.records.writing import check_free, check_place, replacing, write_text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_an_interrupted_file_leaves_the_old_one_and_nothing_else(tmp_path: Path, kind) -> None:
    path = write_text(tmp_path / "a" / "b.json", "old")

    def begin() -> None:
        with replacing(path) as part:
            part.write_text("ne")
            raise kind

    with pytest.raises(kind):
        begin()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_places_are_tried_without_a_trace(tmp_path: Path) -> None:
    check_place(tmp_path / "a" / "b" / "c.json")
    assert list(tmp_path.iterdir()) == []
    file = write_text(tmp_path / "file", "")
    with pytest.raises(OSError, match=r"c\.json: cannot be written in .*file"):
        check_place(file / "c.json")
    with pytest.raises(FileExistsError, match="exists already"):
        check_free(file, overwrite=False)
    check_free(file, overwrite=True)
    with pytest.raises(FileExistsError, match="is a folder"):
        check_free(tmp_path, overwrite=True)


_PICTURES = ("--recons", "none", "--targets", "none")


@pytest.mark.parametrize(
    "command",
    [
        ["score", *_PICTURES, "--protocol", "offline"],
        ["controls", *_PICTURES],
        ["report", "none", *_PICTURES],
        ["compare", "none", "none"],
        ["study", "make", "--targets", "none", "--method", "A=none"],
        ["study", "analyse", "none", "--key", "none"],
    ],
)
def test_every_command_asks_for_its_place_first(tmp_path: Path, command: list[str]) -> None:
    file = write_text(tmp_path / "file", "")
    found = CliRunner().invoke(app, [*command, "--out", str(file / "out")])
    assert found.exit_code == 1
    assert "cannot be written" in found.output
    assert len(found.output.strip().splitlines()) == 1


def test_ctrl_c_is_one_line_and_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Protocol, "load", interrupt)
    found = CliRunner().invoke(app, ["protocols", "offline"])
    assert found.exit_code == 130
    assert found.output == "interrupted; no file is left half written\n"
