"""What the benchmarks of this folder share: steps in turn, extra memory, errors, the last line."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity

Step = Callable[[], Sequence[Tensor]]


def options(description: str | None, **defaults: int) -> argparse.Namespace:
    """Whole numbers and the device from the command line; torch's threads set to `threads`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    for name, default in {**defaults, "threads": 2, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def relative_error(ours: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Largest norm of a difference over the norm of the truth among several tensors."""
    pairs = [(one.double(), other.double()) for one, other in zip(ours, truth, strict=True)]
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def rounding(n_terms: int, dtype: torch.dtype) -> float:
    """Worst relative error of sums of `n_terms` products in this type."""
    return n_terms * torch.finfo(dtype).eps


def gate(checks: Mapping[str, tuple[float, float]]) -> bool:
    """Print errors beside their tolerances; whether all are within."""
    passed = all(error <= tolerance for error, tolerance in checks.values())
    print(f"gate {_word(passed)}")
    for name, (error, tolerance) in checks.items():
        print(f"  {name:<58} {error:.1e} (at most {tolerance:.1e})")
    return passed


def seconds(step: Step) -> float:
    """Wall-clock time of a step; where that is below a second, the median of five."""
    times: list[float] = []
    while not times or (times[0] < 1 and len(times) < 5):
        _wait()
        start = time.perf_counter()
        step()
        _wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _wait() -> None:
    """Until a GPU, if one is in use, has done what it was asked to."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def in_turn(steps: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round; a round runs one step after the other."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(step))
    return times


def speedup(times: Mapping[str, list[float]], ours: str, theirs: str) -> float:
    """Median over the rounds of their time over ours."""
    pairs = zip(times[ours], times[theirs], strict=True)
    return statistics.median(other / one for one, other in pairs)


def extra_bytes(step: Step) -> int:
    """Most bytes of tensors that one step holds at once beyond what was there before it."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        _wait()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = profile.profiler.kineto_results.events()
    memory = [event for event in events if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(memory, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def table(times: Mapping[str, list[float]], extra: Mapping[str, int | None]) -> None:
    """Print one row a form: median, least and largest time, extra memory where it is known."""
    print(f"{'':<40}{'median ms':>12}{'min':>10}{'max':>10}{'extra MiB':>12}")
    for name, values in times.items():
        row = (statistics.median(values), min(values), max(values))
        numbers = f"{1e3 * row[0]:>12.1f}{1e3 * row[1]:>10.1f}{1e3 * row[2]:>10.1f}"
        size = extra.get(name)
        print(f"{name:<40}{numbers}{'' if size is None else f'{size / 2**20:>12.1f}'}")


def milliseconds(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Median of each form, for the last line."""
    return {name: round(1e3 * statistics.median(values), 1) for name, values in times.items()}


def finish(name: str, passed: bool, **figures: object) -> None:
    """Print the line of JSON and end the process: with 0 only if the gate passed."""
    print(json.dumps({"name": name, "gate": _word(passed), **figures}))
    sys.exit(not passed)


def _word(passed: bool) -> str:
    return "passed" if passed else "failed"
