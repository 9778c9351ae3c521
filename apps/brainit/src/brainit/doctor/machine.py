"""The machine: where it computes, memory, disk, and versions of what is installed."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from packaging.requirements import Requirement

from brainit.computing import computing_type, device
from brainit.doctor.check import Check, gigabytes
from brainit.doctor.needs import Needs

LARGE = 2_000_000_000
"""Bytes of trained state beyond which a processor takes weeks."""


def check_device(needs: Needs) -> Check:
    """Is there a GPU, and does what is trained fit into it?"""
    need = f"training holds {gigabytes(needs.device)} and its activations"
    where, kind = device(), str(computing_type("auto")).removeprefix("torch.")
    if where.type == "cpu":
        cores = psutil.cpu_count(logical=False)
        found = f"CPU, {cores} cores, precision auto is {kind}; {need}"
        if needs.device < LARGE:
            return Check("device", "ok", found)
        return Check("device", "warn", found, "this profile wants a GPU: weeks become hours")
    free, total = torch.cuda.mem_get_info()
    name = torch.cuda.get_device_name()
    found = (
        f"{name}, precision auto is {kind}, {gigabytes(free)} of {gigabytes(total)} free; {need}"
    )
    if needs.device > free:
        return Check(
            "device", "fail", found, "free the GPU of other programs, or train fewer subjects"
        )
    if 2 * needs.device > free:
        return Check("device", "warn", found, "lower batch_size and raise accumulate as much")
    return Check("device", "ok", found)


def check_memory(needs: Needs) -> Check:
    """Does what training keeps in memory fit?"""
    free = psutil.virtual_memory().available
    found = f"{gigabytes(free)} available, {gigabytes(needs.memory)} needed"
    if free >= needs.memory:
        return Check("memory", "ok", found)
    advice = "take a machine with more memory, or fewer data.subjects or external images"
    return Check("memory", "fail", found, advice)


def check_disk(run: Path, needs: Needs, done: frozenset[str]) -> Check:
    """Can the run folder be written, and hold what is not done yet?

    Args:
        run: The run folder, there or not.
        needs: Of the profile.
        done: Stages whose outputs are there.
    """
    place = next(p for p in (run, *run.absolute().parents) if p.is_dir())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Check("disk", "fail", f"{place}: {error.strerror}", "choose another --run folder")
    open_stages = {stage: size for stage, size in needs.disk.items() if stage not in done}
    need = sum(open_stages.values()) + (0 if "prepare" in done else needs.scratch)
    free = shutil.disk_usage(place).free
    found = f"{gigabytes(free)} free at {place}, {gigabytes(need)} needed"
    if free < need:
        return Check("disk", "fail", found, "free some space or choose another --run folder")
    return Check("disk", "ok", found)


def check_versions() -> Check:
    """Does what is installed satisfy what our packages ask for?"""
    try:
        wanted = list(_requirements("brainit", frozenset(), set()))
    except importlib.metadata.PackageNotFoundError as error:
        found = f"{error.name} is not installed as a package, so its needs are not known"
        return Check("versions", "warn", found, "hatch run, or pip install the packages")
    wrong = [line for asked in wanted if (line := _unsatisfied(asked))]
    if wrong:
        return Check("versions", "fail", "; ".join(wrong), "pip install the versions asked for")
    return Check("versions", "ok", f"all {len(wanted)} requirements are met; torch {_torch()}")


def _requirements(
    name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]
) -> Iterator[Requirement]:
    """What a package asks for, and what those of our own ask for in turn."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    for line in importlib.metadata.requires(name) or ():
        asked = Requirement(line)
        marker = asked.marker
        if marker and not any(marker.evaluate({"extra": e}) for e in extras or {""}):
            continue
        yield asked
        if asked.name.startswith("brainit-"):
            yield from _requirements(asked.name, frozenset(asked.extras), seen)


def _unsatisfied(asked: Requirement) -> str:
    try:
        found = importlib.metadata.version(asked.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{asked.name} is missing"
    fits = asked.specifier.contains(found, prereleases=True)
    return "" if fits else f"{asked.name} is {found}, asked for {asked.specifier}"


def _torch() -> str:
    return (
        f"{torch.__version__}, CUDA {torch.version.cuda}"
        if torch.version.cuda
        else str(torch.__version__)
    )
