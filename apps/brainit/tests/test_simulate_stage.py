"""The stage that simulates: its folder appears whole, and once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from brainit.profile import load_profile
from brainit.run_folder import RunError, RunFolder
from brainit.simulation import SimulationConfig
from brainit.stages import simulate as simulate_stage


def test_a_killed_simulation_is_begun_anew_and_a_whole_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_profile("tiny")
    run, made = RunFolder(tmp_path, profile), []

    def stand_in(output: Path, config: SimulationConfig, routes: Sequence[str]) -> None:
        assert not output.exists()
        made.append(output)
        output.mkdir()
        (output / "x").touch()
        if len(made) == 1:
            raise KeyboardInterrupt
        written = {"config": asdict(config)}
        (output / "manifest.json").write_text(json.dumps(written))

    monkeypatch.setattr("brainit.simulation.nsd_tree.simulate", stand_in)
    with pytest.raises(KeyboardInterrupt):
        simulate_stage.run(run, "")
    assert not (tmp_path / "nsd").exists()
    for _ in range(2):
        assert simulate_stage.run(run, "")["root"] == tmp_path / "nsd"
    assert len(made) == 2
    other = RunFolder(tmp_path, load_profile("tiny", ["seed=1"]))
    with pytest.raises(RunError, match="other scans"):
        simulate_stage.run(other, "")
