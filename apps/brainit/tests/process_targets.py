"""What the processes of a test run.

They find it by this file's name: a module of tests has none that another process could import.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import stage_tasks
import torch
import toy
from rich.console import Console
from torch import nn

from brainit import engine, pipeline, processes
from brainit.profile import load_profile
from brainit.run_folder import RunError, RunFolder
from brainit.stopping import Interrupted


def train_stage(name: str, folder: Path, accumulate: int) -> None:
    """Train the task of a stage, as every process of it does."""
    torch.set_num_threads(1)
    profile = stage_tasks.profile(accumulate=accumulate)
    task = stage_tasks.TASKS[name](folder / str(os.getpid()), profile, stage_tasks.Few())
    engine.train(task, stage_tasks.training(name, profile), folder, 1)


def take_steps(folder: Path, changes: dict[str, Any], victim: int, act: str, at: int) -> None:
    """Train a toy; in one process something happens at a step. Say how it ended."""

    def before(epoch: int, index: int) -> float | None:
        if processes.rank() == victim and epoch * 5 + index == at:
            if act == "nan":
                return math.nan
            os.kill(os.getpid(), signal.SIGKILL if act == "kill" else signal.SIGTERM)
        return None

    with (folder / f"end{processes.rank()}").open("w") as end:
        try:
            toy.train(folder, before, **changes)
        except (Interrupted, RuntimeError, ValueError) as error:
            end.write(f"{type(error).__name__}: {error}")
            end.flush()
            raise SystemExit(getattr(error, "exit_code", 1)) from None


def sharded(target: Callable[..., None], *arguments: Any) -> None:
    """What a target does, launched for FSDP."""
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    target(*arguments)


def look_at_shards(folder: Path) -> None:
    """Train a toy with a parameter that no batch uses; write what this process had of it."""
    task = toy.ToyTask()
    task.module.register_parameter("idle", nn.Parameter(torch.ones(3)))
    config = replace(toy.CONFIG, accumulate=2, weight_decay=0.5)
    run = engine._Run(task, config, folder, 1, None)
    run.train()
    parts = [p for group in run.optimiser.param_groups for p in group["params"]]
    moments = [run.optimiser.state.get(part, {}).get("exp_avg") for part in parts]
    seen = {
        "moments": [None if m is None else m.shape for m in moments],
        "plain": [type(p) is nn.Parameter for p in task.module.parameters()],
        "weights": {name: value.tolist() for name, value in task.module.state_dict().items()},
    }
    (folder / f"seen{processes.rank()}").write_text(json.dumps(seen))


def run_pipeline(folder: Path) -> None:
    """Run every stage with a stand-in that notes which process did it."""

    def load(name: str) -> ModuleType:
        stage = name.rpartition(".")[2]
        module: Any = ModuleType(name)

        def work(run: RunFolder, fingerprint: str) -> dict[str, Path]:
            time.sleep(0.05 * processes.rank())
            (run.path / f"{stage}-{processes.rank()}").touch()
            return {"file": run.path / f"{stage}-0"}

        module.run = work
        return module

    pipeline.import_module = load
    profile = load_profile("tiny")
    names = [stage.name for stage in pipeline.applicable(profile)]
    pipeline.run_stages(RunFolder(folder, profile), names, Console(quiet=True))


def own(folder: Path, ready: Any) -> None:
    """Work in a run folder until killed; end with 3 where another process does."""
    try:
        with RunFolder(folder).owned():
            ready.set()
            time.sleep(600)
    except RunError:
        raise SystemExit(3) from None
