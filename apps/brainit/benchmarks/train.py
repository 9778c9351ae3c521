"""Steps a second of every training stage at the tiny profile's sizes, and the engine's own share.

``hatch run bench train``. The gate: an epoch of the engine ends with the weights of a plain loop
over the same batches. Then three times of an epoch, each the best of some rounds: of that plain
loop (batches one after the other, nothing saved), of the engine with its checkpoints, and of the
engine's forward, backward and update alone, on batches that lie ready. What the engine takes beyond
the last is spent outside the model: loading, checks, checkpoints. The encoder takes images from
memory within its loss, which counts as its model. One line of JSON comes last.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import stage_tasks

from brainit import engine
from brainit.computing import autocast
from brainit.gradients import OneProcess
from brainit.profile import Training, load_profile
from brainit.schedule import Schedule

VOXELS = (2800, 1600, 2400, 1988)
"""Of the tiny profile's four subjects."""
TOLERANCE = 1e-5
"""Of weights near 1 and steps of 3e-3, in fp32 whose sums are taken in another order."""


def plain(task: Any, config: Training) -> None:
    """One epoch as anybody would write it."""
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    optimiser, schedule = engine._optimiser(config, task.module), Schedule(config)
    batches, size = task.epoch(0), config.accumulate
    steps = [range(i, min(i + size, len(batches))) for i in range(0, len(batches), size)]
    task.module.train()
    with engine._attention():
        for step, part in enumerate(steps):
            for index in part:
                seed = np.random.SeedSequence([1, 0, index]).generate_state(1)[0]
                torch.manual_seed(int(seed))
                with autocast(config.precision):
                    loss = task.loss(task.load(batches[index]))
                (loss / len(part)).backward()
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * schedule.factor(step / len(steps))
            optimiser.step()
            for parameter in parameters:
                parameter.grad = None


def whole(task: Any, config: Training) -> None:
    """One epoch of the engine, without validation."""
    task.validate = lambda: {"score": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        engine.train(task, config, Path(folder), 1)


def bare(task: Any, config: Training) -> Callable[[], None]:
    """The engine's model work of one epoch, with batches that have been loaded."""
    batches = [task.load(batch) for batch in task.epoch(0)]
    optimiser = engine._optimiser(config, task.module)

    def loss_of(batch: Any) -> torch.Tensor:
        with autocast(config.precision):
            loss: torch.Tensor = task.loss(batch)
        return loss

    def run() -> None:
        task.module.train()
        gradients = OneProcess(task.module, config.accumulate)
        with engine._attention():
            for first in range(0, len(batches), config.accumulate):
                part = batches[first : first + config.accumulate]
                gradients([partial(loss_of, batch) for batch in part])
                optimiser.step()
        gradients.close()

    return run


def seconds(run: Callable[[], None]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(name: str, n_batches: int, rounds: int) -> dict[str, Any]:
    """Gate and times of one stage."""
    profile = load_profile("tiny")
    owners = [index % len(VOXELS) for index in range(n_batches)]
    config = replace(stage_tasks.training(name, profile), epochs=1)
    with tempfile.TemporaryDirectory() as folder:

        def make(precision: str = config.precision) -> tuple[Any, Training]:
            few = stage_tasks.Few(VOXELS, 36 + 8 * n_batches, 32, owners)
            own = load_profile("tiny", [f"{name}.training.precision={precision}"])
            return stage_tasks.TASKS[name](Path(folder), own, few), replace(
                config, precision=precision
            )

        (one, exact), (other, _) = make("no"), make("no")
        whole(one, exact)
        plain(other, exact)
        states = zip(
            one.module.state_dict().values(), other.module.state_dict().values(), strict=True
        )
        error = max(float((a.double() - b.double()).abs().max()) for a, b in states)
        times: dict[str, list[float]] = {"plain": [], "engine": [], "bare": []}
        task, run_bare = make()[0], bare(*make())
        for _ in range(rounds):
            times["plain"].append(seconds(partial(plain, task, config)))
            times["engine"].append(seconds(partial(whole, task, config)))
            times["bare"].append(seconds(run_bare))
        n_steps = -(-len(task.epoch(0)) // config.accumulate)
    best = {key: min(values) for key, values in times.items()}
    return {
        "steps_per_second": round(n_steps / best["engine"], 3),
        "share_outside_the_model": round(max(0.0, 1 - best["bare"] / best["engine"]), 3),
        "speedup": round(best["plain"] / best["engine"], 2),
        "error": error,
    }


def main() -> None:
    """Measure all stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=8, help="batches an epoch")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    options = parser.parse_args()
    found = {name: measure(name, options.batches, options.rounds) for name in stage_tasks.TASKS}
    passed = all(stage["error"] <= TOLERANCE for stage in found.values())
    print(f"{'stage':<10} {'steps/s':>8} {'outside':>8} {'against plain':>14} {'error':>8}")
    for name, stage in found.items():
        print(
            f"{name:<10} {stage['steps_per_second']:>8.2f} "
            f"{stage['share_outside_the_model']:>8.1%} {stage['speedup']:>13.2f}x "
            f"{stage['error']:>8.0e}"
        )
    speedup = min(stage["speedup"] for stage in found.values())
    gate = "passed" if passed else "failed"
    print(json.dumps({"name": "train", "gate": gate, "speedup": speedup, "stages": found}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
