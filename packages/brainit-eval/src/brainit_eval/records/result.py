"""The result folder: what was scored, how, every image's scores and every rank.

Three files: ``result.json`` (method, protocol with its hash, test set, scores with intervals,
weights, versions), ``per_image.csv`` (a row per subject, sample and image) and
``ranks.safetensors`` (identification ranks, in the row order of the table).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brainit_eval.records.fields import Fields, read_json
from brainit_eval.records.labels import check_label, check_title, image_id
from brainit_eval.records.per_image import PerImage
from brainit_eval.records.result_parts import MetricScore, ProtocolRecord, TestSet, WeightsRecord
from brainit_eval.records.writing import check_place

SCHEMA = 1
DIRECTIONS = ("reconstruction_fixed", "image_fixed")
_FILES = ("result.json", "per_image.csv", "ranks.safetensors")


@dataclass(frozen=True)
class Result:
    """Scores of one method under one protocol.

    Attributes:
        method: Name of the method, for people.
        protocol: How it was scored.
        test_set: On which images.
        subjects: In the order of the table.
        samples: Reconstructions per image (generator seeds).
        metrics: Metric name to score.
        per_image: Every image's scores.
        ranks: ``subject/sample/metric/direction`` to ``[n]`` int64: how many distractors the right
            answer fails to beat; rows as in `per_image`. See `rank_key`.
        weights: Network to its weights.
        versions: Package to version.
        device: Where the networks ran.
        dtype: And in which precision.
        options: Further choices, such as the number of bootstrap draws.
        warnings: What a reader must know, one line each.
    """

    method: str
    protocol: ProtocolRecord
    test_set: TestSet
    subjects: tuple[str, ...]
    samples: int
    metrics: Mapping[str, MetricScore]
    per_image: PerImage
    ranks: Mapping[str, np.ndarray]
    weights: Mapping[str, WeightsRecord] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    dtype: str = "float32"
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts fit each other.

        Raises:
            ValueError: If names are unsafe, or tables and ranks differ in subjects or length.
        """
        check_title(self.method, "method")
        _check_hash(self.protocol.hash, "protocol hash")
        _check_hash(self.test_set.ids_sha256, "test set")
        for name in (*self.subjects, *self.metrics, *self.weights):
            check_label(name, "result")
        _check_table(self)
        _check_ranks(self)

    def write(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the three files; an older result is replaced once they are complete, or it stays.

        Args:
            folder: Folder to make; its parent is made too.
            overwrite: Whether a result that is there already may be replaced.

        Raises:
            FileExistsError: If the folder exists and may not be replaced, or holds other files.
        """
        target = Path(folder)
        check_target(target, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            new = Path(scratch, "new")
            new.mkdir()
            _write_json(new / _FILES[0], self)
            self.per_image.write(new / _FILES[1])
            _write_ranks(new / _FILES[2], self.ranks)
            _swap(target, new, Path(scratch, "old"))
        return target

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Result:
        """Read a result folder.

        Raises:
            FileNotFoundError: If a file of it is missing.
            ValueError: If a file is not what `write` makes.
        """
        path = Path(folder)
        for name in _FILES:
            if not (path / name).is_file():
                raise FileNotFoundError(f"{path}: expected a result folder with {name}")
        record = Fields(read_json(path / _FILES[0]), str(path / _FILES[0]))
        values = _parse(record)
        table = PerImage.read(path / _FILES[1])
        try:
            return cls(**values, per_image=table, ranks=_read_ranks(path / _FILES[2]))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def rank_key(subject: str, sample: int, metric: str, direction: str = DIRECTIONS[0]) -> str:
    """Key of `Result.ranks`.

    Args:
        subject: Subject.
        sample: Number of the sample.
        metric: Identification metric, such as ``two_way_clip``.
        direction: ``reconstruction_fixed`` (distractors are other true images) or ``image_fixed``
            (distractors are other reconstructions).
    """
    return f"{subject}/{sample}/{metric}/{direction}"


def ids_hash(ids: Mapping[str, Sequence[object]]) -> str:
    """SHA-256 of a test set: of its sorted ids, or of each subject's where subjects differ.

    Args:
        ids: Subject to image ids; order does not matter.
    """
    texts = {subject: sorted(image_id(value) for value in ids[subject]) for subject in sorted(ids)}
    sets = list(texts.values())
    if all(values == sets[0] for values in sets):
        lines: Iterable[str] = sets[0] if sets else ()
    else:
        lines = (f"{subject}/{value}" for subject, values in texts.items() for value in values)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_target(target: Path, overwrite: bool) -> None:
    """Whether a result may be written there; also worth asking before the work begins.

    Raises:
        FileExistsError: If it exists and may not be replaced, or holds other files.
        OSError: If nothing can be written there.
    """
    check_place(target)
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{target}: exists already; choose another folder or overwrite it")
    if not target.is_dir() or {path.name for path in target.iterdir()} - set(_FILES):
        raise FileExistsError(f"{target}: holds more than a result; not overwritten")


def _swap(target: Path, new: Path, old: Path) -> None:
    """Put ``new`` in the place of ``target``, which comes back if that fails or is interrupted."""
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise


def _check_hash(value: str, name: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"{name}: expected 64 hexadecimal digits, got {ascii(value)[:80]}")


def _check_table(result: Result) -> None:
    table = result.per_image
    n = len(table.subject)
    columns = {"sample": table.sample, "image_id": table.image_id, **table.values}
    for name, values in columns.items():
        if values.shape != (n,):
            raise ValueError(f"per_image: {name}: expected {n} rows, got {list(values.shape)}")
    if set(table.values) != set(result.metrics):
        raise ValueError("per_image: expected one column for each metric of the result")
    if list(dict.fromkeys(table.subject.tolist())) != list(result.subjects):
        raise ValueError(f"per_image: expected the subjects {', '.join(result.subjects)} in order")
    if set(table.sample.tolist()) != set(range(result.samples)):
        raise ValueError(f"per_image: expected samples 0 to {result.samples - 1}")
    triples = zip(table.subject, table.sample, table.image_id, strict=True)
    if len(set(triples)) != n:
        raise ValueError("per_image: expected each subject, sample and image once")


def _check_ranks(result: Result) -> None:
    for key, ranks in result.ranks.items():
        parts = key.split("/")
        if len(parts) != 4 or parts[2] not in result.metrics or parts[3] not in DIRECTIONS:
            raise ValueError(f"ranks: expected subject/sample/metric/direction, got {key!a}")
        n = len(result.per_image.rows(parts[0], int(parts[1]))) if parts[1].isdecimal() else 0
        fits = ranks.shape == (n,) and ranks.dtype == np.int64
        if n < 2 or not fits or ranks.min() < 0 or ranks.max() > n - 1:
            raise ValueError(f"ranks: {key}: expected {n} int64 values from 0 to {n - 1}")


def _write_json(path: Path, result: Result) -> None:
    record = {
        "schema": SCHEMA,
        "method": result.method,
        "protocol": asdict(result.protocol),
        "test_set": asdict(result.test_set),
        "subjects": list(result.subjects),
        "samples": result.samples,
        "options": dict(result.options),
        "warnings": list(result.warnings),
        "metrics": {name: score.as_record() for name, score in result.metrics.items()},
        "weights": {name: asdict(weights) for name, weights in result.weights.items()},
        "versions": dict(result.versions),
        "device": result.device,
        "dtype": result.dtype,
    }
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_ranks(path: Path, ranks: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    path.write_bytes(save({key: np.ascontiguousarray(values) for key, values in ranks.items()}))


def _read_ranks(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: expected safetensors, got {error}") from None


def _parse(record: Fields) -> dict[str, Any]:
    record.integer("schema", SCHEMA, SCHEMA)
    metrics, weights, versions = (record.table(key) for key in ("metrics", "weights", "versions"))
    values = {
        "method": record.text("method"),
        "protocol": ProtocolRecord.parse(record.table("protocol")),
        "test_set": TestSet.parse(record.table("test_set")),
        "subjects": record.texts("subjects"),
        "samples": record.integer("samples", 1, 10**6),
        "options": record.table("options").plain(),
        "warnings": record.texts("warnings"),
        "metrics": {name: MetricScore.parse(metrics.table(name)) for name in metrics.names()},
        "weights": {name: WeightsRecord.parse(weights.table(name)) for name in weights.names()},
        "versions": {name: versions.text(name) for name in versions.names()},
        "device": record.text("device"),
        "dtype": record.text("dtype"),
    }
    record.close()
    return values
