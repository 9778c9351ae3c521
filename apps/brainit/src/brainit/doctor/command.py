"""`brainit doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from brainit.doctor.check import Check
    from brainit.profile import Profile


def doctor(
    profile: Annotated[
        str | None, typer.Option(help="Shipped profile or TOML file; else the run's own, or tiny.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Run folder, there or not.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override, as KEY=VALUE.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Check machine, weights and data for a profile before hours are spent; exit 1 if one fails."""
    from brainit.doctor import check
    from brainit.profile import load_profile

    own = run / "config.toml" if run is not None else None
    chosen = profile or (str(own) if own is not None and own.is_file() else "tiny")
    checks = examine(load_profile(chosen, overrides), run)
    if as_json:
        typer.echo(json.dumps(check.as_json(checks), indent=1))
    else:
        check.show(checks, f"Profile {chosen}", Console(highlight=False))
    if check.failed(checks):
        raise typer.Exit(1)


def examine(profile: Profile, run: Path | None) -> list[Check]:
    """Every check of a profile.

    Args:
        profile: What shall be run.
        run: Where; None looks at the disk of the working directory and at no run folder.
    """
    from brainit.doctor import data, machine, weights
    from brainit.doctor.needs import needs_of
    from brainit.doctor.world import world_of

    world = world_of(profile, run)
    needs = needs_of(profile, world)
    done = frozenset[str]() if run is None else data.finished(run)
    return [
        machine.check_versions(),
        machine.check_device(needs),
        machine.check_memory(needs),
        machine.check_disk(run or Path(), needs, done),
        *([] if run is None else [data.check_run(run, profile)]),
        *data.check_data(profile, run),
        *weights.check_weights(profile),
    ]
