"""A run folder: the profile it follows, a manifest of finished stages, and their outputs.

Stages find their inputs through the manifest, never by guessing a file name. A stage whose settings
and inputs are unchanged is not run again.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from uuid import uuid4

from brainit.__about__ import __version__
from brainit.profile import Profile, dump_profile, load_profile
from brainit.shares import Share

if TYPE_CHECKING:
    from brainit.tracking import Tracker

_VERSIONS = ("torch", "diffusers", "open_clip_torch", "scikit-learn", "numpy")
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


class RunError(RuntimeError):
    """A run folder that cannot serve; the message says what is missing and what to do."""


class RunFolder:
    """Folder of one run.

    Args:
        path: Folder, made if missing.
        profile: The profile to follow. None takes the one that the folder already holds; nothing
            is written before a stage ends.

    Attributes:
        share: Which of several processes this is.

    Raises:
        RunError: No profile was given and the folder holds none.
    """

    def __init__(self, path: Path, profile: Profile | None = None) -> None:
        self.path = path
        config = path / "config.toml"
        if profile is None and not config.is_file():
            raise RunError(
                f"{path}: not a run folder (no config.toml); give --profile to start one"
            )
        self.profile = profile or load_profile(str(config))
        self.share = Share()
        self._trackers: dict[str, Tracker] = {}
        self._awaited: dict[str, str] = {}
        self._manifest_path = path / "manifest.json"
        self.manifest: dict[str, Any] = {"created": _now(), "stages": {}}
        if self._manifest_path.is_file():
            self.manifest |= json.loads(self._manifest_path.read_text())
        self.manifest |= {
            "seed": self.profile.seed,
            "git_commit": _git_commit(),
            "versions": _versions(),
        }
        if profile is not None:
            write_text(config, dump_profile(profile))
            if not self._manifest_path.is_file():
                self._save()

    @cached_property
    def base(self) -> RunFolder | None:
        """The run whose models this one takes over, if it adapts them to a new subject."""
        adaptation = self.profile.adaptation
        return RunFolder(Path(adaptation.base)) if adaptation and adaptation.base else None

    @property
    def world(self) -> RunFolder:
        """The run that holds the simulated scans, in a profile with a simulation."""
        return self.base or self

    def reload(self) -> None:
        """Take note of the stages that other processes have finished."""
        if self._manifest_path.is_file():
            self.manifest["stages"] = json.loads(self._manifest_path.read_text())["stages"]

    def output(self, stage: str, name: str) -> Path:
        """Path of a finished stage's output.

        Raises:
            RunError: The stage has not been run, or its file is gone.
        """
        entry = self.manifest["stages"].get(stage)
        if entry is None:
            raise RunError(f"{self.path}: stage {stage!r} has not been run yet")
        path = self.path / str(entry["outputs"][name])
        if not path.exists():
            raise RunError(
                f"{path}: missing, though stage {stage!r} wrote it; run that stage again"
            )
        return path

    def seconds(self) -> dict[str, float]:
        """Wall seconds of every finished stage, in order."""
        return {name: entry["seconds"] for name, entry in self.manifest["stages"].items()}

    def fingerprint(
        self, settings: Any, needs: tuple[str, ...], inherits: tuple[str, ...] = ()
    ) -> str:
        """Hash of a stage's settings and of the stages that it reads, here and of the base."""
        inputs = [self.fingerprint_of(need) for need in needs]
        if self.base is not None:
            inputs += [self.base.fingerprint_of(name) for name in inherits]
        text = json.dumps([settings, inputs], sort_keys=True, default=_as_json)
        return hashlib.sha256(text.encode()).hexdigest()

    def fingerprint_of(self, stage: str) -> str:
        """Fingerprint of a stage that is finished, or that other processes are to finish.

        Empty if there is none.
        """
        finished = self.manifest["stages"].get(stage, {}).get("fingerprint", "")
        return self._awaited.get(stage, str(finished))

    def await_others(self, stage: str, fingerprint: str) -> None:
        """Take note of a stage of which this process has made its share."""
        self._awaited[stage] = fingerprint

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep this run's other processes out of such blocks; what they finished is known then."""
        import fcntl

        with (self.path / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.reload()
            yield

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep other commands out of this run; a process that is killed leaves it free at once.

        Where a file system has no locks, nobody is kept out.

        Raises:
            RunError: Another process works in it.
        """
        path = self.path / ".owner"
        while True:
            with path.open("a+") as file:
                self._lock(file)
                if not _has_name(file, path):  # who had it has just removed it
                    continue
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}")
                file.flush()
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return

    def _lock(self, file: TextIO) -> None:
        import fcntl

        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, no child has it
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                owner = file.read() or "another process"
                raise RunError(
                    f"{self.path}: {owner} works in it; wait for its end, or stop it"
                ) from None
            if error.errno not in _NO_LOCKS:
                raise

    def is_current(self, stage: str, fingerprint: str) -> bool:
        """Whether the stage was finished with this fingerprint and its outputs still exist."""
        entry = self.manifest["stages"].get(stage)
        if entry is None or entry["fingerprint"] != fingerprint:
            return False
        return all((self.path / str(output)).exists() for output in entry["outputs"].values())

    def finish(
        self, stage: str, fingerprint: str, seconds: float, outputs: dict[str, Path]
    ) -> None:
        """Record a finished stage."""
        self.reload()  # other processes may have finished others
        self.manifest["stages"].pop(stage, None)
        self.manifest["stages"][stage] = {
            "fingerprint": fingerprint,
            "seconds": round(seconds, 2),
            "finished": _now(),
            "outputs": {name: os.path.relpath(path, self.path) for name, path in outputs.items()},
        }
        self._save()

    def log(self, *, task: str, epoch: int, **figures: float) -> None:
        """Add an epoch's line to metrics.jsonl, and show it on the profile's tracker.

        A training that went back to its last checkpoint comes to epochs that it had logged, so the
        lines of the task from this epoch on are replaced.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        kept = [
            line
            for line in lines
            if (row := json.loads(line))["task"] != task or row["epoch"] < epoch
        ]
        new = json.dumps({"task": task, "epoch": epoch, **figures})
        write_text(path, "\n".join([*kept, new]) + "\n")
        if self.profile.tracker != "none":
            self._track(task, epoch, figures)

    def _track(self, task: str, epoch: int, figures: dict[str, float]) -> None:
        from brainit.tracking import Tracker

        if task not in self._trackers:
            self._trackers[task] = Tracker(self.profile.tracker, self.path, task, epoch)
        self._trackers[task].log(epoch, figures)

    def _save(self) -> None:
        write_text(self._manifest_path, json.dumps(self.manifest, indent=1) + "\n")


def _has_name(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` only when the block ends without error.

    After a crash of the machine, too, `path` is as it was before or whole.

    Raises:
        OSError: It could not be written; `filename` says what.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors leaves its files to their owner alone
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename = str(path)  # a full disk does not even say what was written
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def _as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    return {"brainit": __version__, "python": platform.python_version(), **versions}


def _git_commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None
