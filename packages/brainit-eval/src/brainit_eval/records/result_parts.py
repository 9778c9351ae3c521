"""The parts of a result's record: scores, test set, protocol, weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from brainit_eval.records.fields import Fields


@dataclass(frozen=True)
class MetricScore:
    """One metric of a method.

    Attributes:
        value: Mean over subjects.
        low: Lower end of the 95 % interval; NaN if there is none.
        high: Upper end.
        higher_is_better: Direction.
        per_subject: Each subject's value.
    """

    value: float
    low: float
    high: float
    higher_is_better: bool
    per_subject: Mapping[str, float]

    @classmethod
    def parse(cls, table: Fields) -> MetricScore:
        """Read one from a record."""
        per_subject = table.table("per_subject")
        score = cls(
            table.number("value"),
            table.number("low"),
            table.number("high"),
            table.flag("higher_is_better"),
            {name: per_subject.number(name) for name in per_subject.names()},
        )
        table.close()
        return score

    def as_record(self) -> dict[str, Any]:
        """As plain data; NaN, which JSON has not, becomes null."""
        values = {name: _number(getattr(self, name)) for name in ("value", "low", "high")}
        per_subject = {name: _number(value) for name, value in self.per_subject.items()}
        return {
            **values,
            "higher_is_better": self.higher_is_better,
            "per_subject": per_subject,
        }


@dataclass(frozen=True)
class TestSet:
    """Which images were scored.

    Attributes:
        name: Its name, such as ``nsd-shared-1000``.
        n_images: Number of different images.
        ids_sha256: `ids_hash` of the image ids.
    """

    __test__ = False  # no pytest class, whatever its name

    name: str
    n_images: int
    ids_sha256: str

    @classmethod
    def parse(cls, table: Fields) -> TestSet:
        """Read one from a record."""
        test_set = cls(
            table.text("name"), table.integer("n_images", 2, 10**9), table.text("ids_sha256")
        )
        table.close()
        return test_set


@dataclass(frozen=True)
class ProtocolRecord:
    """The protocol as it was when the scores were made: name, hash and all settings."""

    name: str
    hash: str
    settings: Mapping[str, Any]

    @classmethod
    def parse(cls, table: Fields) -> ProtocolRecord:
        """Read one from a record.

        Raises:
            ValueError: If the hash is not that of the settings.
        """
        protocol = cls(table.text("name"), table.text("hash"), table.table("settings").plain())
        table.close()
        if protocol.hash != settings_hash(protocol.settings):
            raise ValueError(f"{table.where}: hash: expected that of the settings beside it")
        return protocol

    def metric(self, name: str) -> Mapping[str, Any]:
        """How it computes a metric; empty if it does not say."""
        metrics = self.settings.get("metrics")
        settings = metrics.get(name) if isinstance(metrics, Mapping) else None
        return settings if isinstance(settings, Mapping) else {}


@dataclass(frozen=True)
class WeightsRecord:
    """A network's weights: what they are called and the SHA-256 of their file or tensors."""

    name: str
    sha256: str

    @classmethod
    def parse(cls, table: Fields) -> WeightsRecord:
        """Read one from a record."""
        record = cls(table.text("name"), table.text("sha256"))
        table.close()
        return record


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of a protocol's settings as canonical JSON."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
