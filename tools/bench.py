"""Find a benchmark by its name and run it: ``hatch run bench NAME [ARGUMENTS]``.

A benchmark is a script ``benchmarks/NAME.py`` of a package or an app, NAME with underscores in the
file name and with underscores or hyphens on the command line. It checks correctness first,
shows a table, and prints last one JSON line with ``name``, ``gate`` ("passed" or "failed"),
``speedup`` and, where memory is the point, ``memory_ratio``; its exit code is 0 only if the gate
passed.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def benchmarks(root: Path = ROOT) -> dict[str, Path]:
    """Every benchmark of the workspace, by name.

    Args:
        root: Folder that holds ``packages`` and ``apps``.

    Returns:
        File name without ending -> file, sorted by name; names with a leading underscore are
        helpers, not benchmarks.

    Raises:
        ValueError: Two benchmarks share a name.
    """
    found: dict[str, Path] = {}
    for group in ("packages", "apps"):
        for path in sorted(root.glob(f"{group}/*/benchmarks/[!_]*.py")):
            if path.stem in found:
                raise ValueError(
                    f"two benchmarks are named {path.stem}: {found[path.stem]}, {path}"
                )
            found[path.stem] = path
    return dict(sorted(found.items()))


def main() -> None:
    """Run the benchmark that the first argument names, with the other arguments as its own."""
    known = benchmarks()
    names = ", ".join(known) or "none yet"
    if len(sys.argv) < 2:
        sys.exit(f"usage: hatch run bench NAME [ARGUMENTS]\nbenchmarks: {names}")
    name = sys.argv[1].replace("-", "_")
    if name not in known:
        sys.exit(f"no benchmark is named {name!r}; benchmarks: {names}")
    path = known[name]
    sys.argv = [str(path), *sys.argv[2:]]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


if __name__ == "__main__":
    main()
