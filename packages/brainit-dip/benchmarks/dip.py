"""Presets of the inversion against the published settings: time, feature loss, PixCorr, SSIM.

Photographs of scikit-image, their features corrupted to the correlations that a BIT reaches
(``--correlations``; the default is what the demo's calibration finds on held-out images):
``hatch run bench dip [--device cuda]``. Times are of one image at a time, scores of all photographs
and seeds side by side, then speed and memory of 16 side by side. An inverter is trained first on
other pictures, or read with ``--inverter FOLDER``. ``--steps-scale 0.01`` is a smoke run; the gate
then only asks for correct code.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from _networks import KINDS, network
from _pictures import TEST, photos, write_leaves
from _race import race, run
from _scores import agreement, peak_bytes, scores, seconds
from torch import Tensor

from brainit_dip import InversionConfig, Inverter, corrupt, invert
from brainit_dip.image_folder import list_images, read_image
from brainit_dip.inverter_training import TrainingConfig, train_inverter

DEMO = "0.38,0.35,0.35,0.38,0.56"
RIVALS = ("quality", "fast", "pixels")
BATCH_STEPS = 15
SCORE_MARGIN = 0.02


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", default="tiny,random", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--photos", type=int, default=len(TEST))
    parser.add_argument("--seeds", type=int, default=3, help="runs of each photograph")
    parser.add_argument("--correlations", default=DEMO, help="one per level")
    parser.add_argument("--steps-scale", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--leaves", type=int, default=4_000, help="pictures to train on")
    parser.add_argument("--inverter", type=Path, help="folder with one folder per network")
    parser.add_argument("--inverter-steps", type=int, default=6_000)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 2))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="folder for pictures, curves and inverters")
    return parser.parse_args()


class Problem:
    """One network, the photographs and their corrupted features, as often as they are run."""

    def __init__(self, kind: str, chosen: argparse.Namespace, pictures: Path) -> None:
        self.kind, self.chosen = kind, chosen
        some = torch.stack([read_image(file, 112) for file in list_images(pictures)[:64]])
        self.vgg = network(kind, some, chosen.seed).to(chosen.device)
        self.side = 2 * self.vgg.image_size
        self.truth = photos(TEST[: chosen.photos], self.side).repeat(chosen.seeds, 1, 1, 1)
        wanted = [float(r) for r in chosen.correlations.split(",")]
        with torch.no_grad():
            everything = self.vgg(photos(TEST, self.side).to(chosen.device))
        corrupted = corrupt(everything, wanted, chosen.seed)
        self.reached = agreement(corrupted, everything)
        self.maps = [x[: chosen.photos].repeat(chosen.seeds, 1, 1, 1) for x in corrupted]

    def config(self, name: str, **changes: object) -> InversionConfig:
        """A preset; the published 224 px are twice what the published VGG sees."""
        config = InversionConfig.named(name)
        steps = max(4, round(config.steps * self.chosen.steps_scale))
        side = self.side if config.image_size else None
        return replace(config, **{"steps": steps, "image_size": side, **changes})

    def one(self, image: int) -> list[Tensor]:
        """The maps of one photograph."""
        return [x[image : image + 1] for x in self.maps]

    def scores(self, answers: Tensor) -> dict[str, float]:
        """Means over the photographs and their runs."""
        return scores(answers, self.truth, self.vgg, self.maps)


def run_preset(problem: Problem, name: str, start: Tensor | None = None) -> dict[str, object]:
    """Each photograph several times, each time with another seed: seconds, scores, their curve."""
    config = problem.config(name)
    figures, answers = run(problem.maps, problem.truth, problem.vgg, config, start)
    keep(problem, name, answers)
    return figures


def run_inverter(problem: Problem, inverter: Inverter) -> tuple[dict[str, object], Tensor]:
    """The feed-forward network, one photograph at a time."""
    device = problem.chosen.device

    @torch.no_grad()
    def call() -> Tensor:
        return inverter(problem.one(0)).cpu()

    times = [seconds(call, device) for _ in range(12)][2:]
    with torch.no_grad():
        answers = inverter(problem.maps)
    keep(problem, "amortised", answers)
    return {"seconds": round(statistics.median(times), 5), **problem.scores(answers)}, answers


def trained(problem: Problem, pictures: Path) -> tuple[Inverter, float]:
    """An inverter for the problem's VGG and the seconds of its training."""
    chosen = problem.chosen
    if chosen.inverter:
        return Inverter.load(chosen.inverter / problem.kind).to(chosen.device), 0.0
    steps = max(4, round(chosen.inverter_steps * chosen.steps_scale))
    precision = "bfloat16" if chosen.device == "cuda" else "float32"
    config = TrainingConfig(steps, correlations=(0.25, 0.75), precision=precision, seed=chosen.seed)
    output = (chosen.output or pictures.parent) / "inverters" / problem.kind
    start = time.perf_counter()
    workers = chosen.workers if chosen.device == "cuda" else 0
    model = train_inverter(pictures, output, problem.vgg, config, workers)
    return model, round(time.perf_counter() - start, 1)


def run_batch(problem: Problem, name: str, batch: int) -> dict[str, float]:
    """Images an hour and memory of `batch` images side by side, from some of the steps."""
    steps = max(4, round(BATCH_STEPS * min(1, 10 * problem.chosen.steps_scale)))
    full, device = problem.config(name), problem.chosen.device
    config = replace(full, steps=steps, batch_size=batch)
    rows = torch.arange(batch) % len(problem.truth)
    maps = [x[rows] for x in problem.maps]

    def spent(config: InversionConfig) -> float:
        return seconds(lambda: invert(maps, problem.vgg, config), device)

    spent(replace(config, steps=4))
    short, long = spent(replace(config, steps=steps)), spent(replace(config, steps=3 * steps))
    each = (long - short) / (2 * steps)  # without what a call costs once
    memory = peak_bytes(lambda: invert(maps, problem.vgg, replace(config, steps=4)), device)
    return {
        "ms_per_image_and_step": round(1e3 * each / batch, 3),
        "images_an_hour": round(3600 * batch / (each * InversionConfig.named(name).steps)),
        "mib_per_image": round(memory / batch / 2**20, 1),
    }


def keep(problem: Problem, name: str, answers: Tensor) -> None:
    """Write the answers beside the photographs, if an output folder was asked for."""
    if problem.chosen.output:
        from torchvision.utils import save_image

        problem.chosen.output.mkdir(parents=True, exist_ok=True)
        size = tuple(problem.truth.shape[2:])
        large = torch.nn.functional.interpolate(answers.float().cpu(), size, mode="bicubic")
        path = problem.chosen.output / f"{problem.kind}-{name}.png"
        save_image(torch.cat([problem.truth, large.clamp(0, 1)]), path, nrow=len(large))


def checks(problem: Problem) -> dict[str, bool]:
    """Whether devices, batches and recorded steps change nothing but float64's rounding.

    A full-width network takes it (5e-15) to some 50 times as much at each of Adam's first steps,
    and to 3e-4 in the fifth, where values change sign in a ReLU. So a CPU is compared after three
    steps (3e-11 seen); the same device rounds alike, and is compared after six, of which three are
    recorded. Images of another seed differ by 0.1.
    """
    vgg = copy.deepcopy(problem.vgg).double()
    pair, one = [x[:2] for x in problem.maps], problem.one(0)
    # A recorded step keeps its rate in float32, which holds 2^-10 exactly and 0.002 not.
    rate = {"lr": 2**-10, "schedule": "constant"}
    plain = {"jitter": 0.0, "precision": "float32", "cuda_graph": False}
    six = problem.config("fast", steps=6, image_size=None, **rate, **plain)
    three = replace(six, steps=3)
    alone = invert(one, vgg, six).images
    beside = invert(pair, vgg, replace(six, batch_size=2)).images
    recorded = invert(one, vgg, replace(six, cuda_graph=True)).images
    shortly = invert(one, vgg, three).images
    elsewhere = invert([x.cpu() for x in one], copy.deepcopy(vgg).cpu(), three).images
    found = {
        "an image alone is the image of a batch": (beside[:1], alone, 1e-6),
        "a recorded step is a step": (recorded, alone, 1e-6),
        "the CPU gives this device's image": (elsewhere, shortly, 1e-9),
    }
    return {k: float((x.cpu() - y.cpu()).abs().max()) < far for k, (x, y, far) in found.items()}


def measure(problem: Problem, pictures: Path) -> Iterator[tuple[str, object]]:
    """Figures by name, in the order in which they are found."""
    yield "correlations", problem.reached
    yield "checks", checks(problem)
    reference = run_preset(problem, "reference")
    yield "reference", reference
    for name in RIVALS:
        ours = run_preset(problem, name)
        yield name, ours
        yield f"race, {name}", race(reference, ours)
    inverter, training = trained(problem, pictures)
    alone, answers = run_inverter(problem, inverter)
    yield "amortised", {**alone, "training_seconds": training}
    warm = run_preset(problem, "warm", answers)
    yield "amortised, then warm", {**warm, "seconds": round(warm["seconds"] + alone["seconds"], 4)}
    for name in ("reference", "quality", "fast"):
        for batch in (1, problem.chosen.batch):
            yield f"batch of {batch}, {name}", run_batch(problem, name, batch)


def verdicts(figures: dict[str, dict[str, float]], complete: bool) -> dict[str, bool]:
    """What the gate asks for: correct code, and in a complete run images as near the photographs.

    Presets at the end of their runs and, beside the reference, where both have the same feature
    loss; the inverter beside the reference's last answer.
    """
    found = dict(figures["checks"])
    if complete:
        for name in ("fast", "quality", "amortised"):
            for score in ("pixcorr", "ssim"):
                least = figures["reference"][score] - SCORE_MARGIN
                found[f"{name}: {score}"] = figures[name][score] >= least
        for name in ("fast", "quality"):
            for score in ("pixcorr", "ssim"):
                same = figures[f"race, {name}"]
                least = same[f"reference_{score}"] - SCORE_MARGIN
                found[f"{name}: {score} at the same loss"] = same[f"ours_{score}"] >= least
    return found


def report(name: str, figures: object) -> None:
    """One line a figure, at once, so that a run cut short has said what it found."""
    shown = (
        {k: v for k, v in figures.items() if k != "curve"} if isinstance(figures, dict) else figures
    )
    print(f"{name:<28} {json.dumps(shown)}", flush=True)


def main() -> None:
    """Run the benchmark."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    where = torch.cuda.get_device_name() if chosen.device == "cuda" else "CPU"
    results, passed = {}, True
    with tempfile.TemporaryDirectory() as scratch:
        count = max(64, round(chosen.leaves * min(1, 10 * chosen.steps_scale)))
        pictures = write_leaves(Path(scratch) / "leaves", count, chosen.seed, chosen.workers)
        for kind in chosen.networks.split(","):
            print(f"\n{KINDS[kind]}; {where}", flush=True)
            problem = Problem(kind, chosen, pictures)
            figures: dict[str, object] = {}
            for name, value in measure(problem, pictures):
                figures[name] = value
                report(name, value)
            gate = verdicts(figures, complete=chosen.steps_scale == 1)
            passed &= all(gate.values())
            report("gate", gate)
            seconds_of = {k: v["seconds"] for k, v in figures.items() if "seconds" in v}
            speedups = {k: round(seconds_of["reference"] / v, 2) for k, v in seconds_of.items()}
            results[kind] = {**figures, "gate": gate, "whole_runs_speedup": speedups}
    main_kind = "random" if "random" in results else next(iter(results))
    tiny = results.get("tiny", results[main_kind])
    summary = {
        "name": "dip",
        "gate": "passed" if passed else "failed",
        "speedup": results[main_kind]["race, fast"]["speedup"],
        "speedup_quality": results[main_kind]["race, quality"]["speedup"],
        "speedup_amortised": tiny["whole_runs_speedup"]["amortised"],
        "device": where,
        "networks": results,
        "settings": {k: str(v) for k, v in vars(chosen).items()},
    }
    if chosen.output:
        chosen.output.mkdir(parents=True, exist_ok=True)
        (chosen.output / "dip.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
