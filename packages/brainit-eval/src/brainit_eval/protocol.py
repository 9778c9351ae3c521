"""A protocol: every choice that moves a score, in one small TOML file with a hash."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from torch import Tensor

from brainit_eval.networks import NETWORKS
from brainit_eval.pictures.resize import Resize
from brainit_eval.records.fields import Fields, read_toml
from brainit_eval.records.labels import check_label
from brainit_eval.records.result import DIRECTIONS
from brainit_eval.records.result_parts import settings_hash

PIXEL_SCORES = ("pixcorr", "ssim", "ssim_columns")
FEATURE_SCORES = ("two_way", "correlation_distance")
PAIR_SCORES = ("perceptual_distance",)
_LOWER_IS_BETTER = ("correlation_distance", "perceptual_distance")


@dataclass(frozen=True)
class MetricSpec:
    """How one metric is computed.

    Attributes:
        score: ``pixcorr``, ``ssim`` (2-D windows), ``ssim_columns`` (1-D windows down each column),
            ``two_way`` (identification by correlation), ``correlation_distance`` (1 - Pearson
            correlation of features), or ``perceptual_distance`` (LPIPS, DreamSim).
        resize: Last step before pixels are compared or a network sees them; None for none.
        network: Network that gives features or distances; empty for pixel scores.
        weights: Its weights.
        layer: Where features are read; empty for perceptual distances.
        direction: For ``two_way``: what is fixed, ``reconstruction_fixed`` or ``image_fixed``.
    """

    score: str
    resize: Resize | None = None
    network: str = ""
    weights: str = ""
    layer: str = ""
    direction: str = ""

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return self.score not in _LOWER_IS_BETTER

    @property
    def settings(self) -> dict[str, Any]:
        """What is set, as plain data."""
        return {key: _plain(value) for key, value in vars(self).items() if value not in ("", None)}


@dataclass(frozen=True)
class Protocol:
    """How a method is scored.

    Attributes:
        name: Short name.
        title: One line for people.
        about: Where it comes from and what to know.
        test_set: Name of the test set, or empty if the user names it.
        n_images: Number of test images it must have, or None for any.
        truth_size: Side in pixels that the true images must have, or None for any.
        front: First step for true images and reconstructions alike, or None.
        metrics: Metric name to how it is computed, in the order of the table.
    """

    name: str
    title: str
    about: str
    test_set: str
    n_images: int | None
    truth_size: int | None
    front: Resize | None
    metrics: Mapping[str, MetricSpec]

    @property
    def settings(self) -> dict[str, Any]:
        """All that moves a score, as plain data; name and texts are left out."""
        test_set = {
            "name": self.test_set or None,
            "n_images": self.n_images,
            "truth_size": self.truth_size,
        }
        return {
            "test_set": test_set,
            "front": _plain(self.front),
            "metrics": {name: spec.settings for name, spec in self.metrics.items()},
        }

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `settings`: equal hashes mean equal computations."""
        return settings_hash(self.settings)

    @classmethod
    def load(cls, name: str | os.PathLike[str]) -> Protocol:
        """Load a frozen protocol by name, or your own by the path of its file.

        Raises:
            FileNotFoundError: If neither is there.
            ValueError: If the file is no protocol; the line says where.
        """
        frozen = _frozen()
        if str(name) in frozen:
            return cls.parse(read_toml(frozen[str(name)]), str(name))
        path = Path(name)
        if not path.is_file():
            raise FileNotFoundError(f"{str(name)!a}: expected {', '.join(frozen)} or a TOML file")
        return cls.parse(read_toml(path), str(path))

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str = "protocol") -> Protocol:
        """Check a protocol field by field.

        Args:
            data: The TOML table.
            where: Name or path; errors start with it.

        Raises:
            ValueError: If a key is missing, unknown or of another kind.
        """
        table = Fields(data, where)
        table.integer("schema", 1, 1)
        test_set, metrics = table.table("test_set"), table.table("metrics")
        protocol = cls(
            name=check_label(table.text("name"), f"{where}: name"),
            title=table.text("title"),
            about=table.text("about"),
            test_set=check_label(test_set.text("name"), where) if "name" in test_set else "",
            n_images=test_set.integer("n_images", 2, 10**6) if "n_images" in test_set else None,
            truth_size=test_set.integer("truth_size", 11, 4096)
            if "truth_size" in test_set
            else None,
            front=_resize(table, "front"),
            metrics={
                check_label(name, f"{where}: metrics"): _metric(metrics.table(name))
                for name in metrics.names()
            },
        )
        test_set.close()
        table.close()
        if not protocol.metrics:
            raise ValueError(f"{where}: expected one metric or more")
        return protocol

    def prepare(self, metric: str) -> Callable[[Tensor], Tensor]:
        """How pictures reach one of its metrics: the first step, then the metric's own resize.

        Returns:
            A function from pictures ``[n, 3, H, W]`` in [0, 1] to float32 ones of another size.
        """
        steps = (self.front, self.metrics[metric].resize)

        def prepared(images: Tensor) -> Tensor:
            images = images.float()
            for step in steps:
                images = images if step is None else step(images)
            return images

        return prepared

    def only(self, names: tuple[str, ...]) -> Protocol:
        """The same protocol with some of its metrics; its hash differs.

        Raises:
            ValueError: If it has no such metric.
        """
        for name in names:
            if name not in self.metrics:
                raise ValueError(f"{self.name}: has no metric {name!r}: {', '.join(self.metrics)}")
        return replace(self, metrics={name: self.metrics[name] for name in names})


def frozen_protocols() -> tuple[str, ...]:
    """Names of the protocols that come with the package."""
    return tuple(_frozen())


def _frozen() -> dict[str, Path]:
    folder = Path(str(resources.files("brainit_eval"))) / "protocols"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _metric(table: Fields) -> MetricSpec:
    score = table.text("score", (*PIXEL_SCORES, *FEATURE_SCORES, *PAIR_SCORES))
    network = weights = layer = direction = ""
    if score not in PIXEL_SCORES:
        network = table.text("network", tuple(NETWORKS))
        weights = table.text("weights", NETWORKS[network].weights)
    if score in FEATURE_SCORES:
        layer = table.text("layer", NETWORKS[network].layers)
    elif score in PAIR_SCORES and NETWORKS[network].layers:
        raise ValueError(f"{table.where}: {network} gives features, no perceptual distance")
    if score == "two_way":
        direction = table.text("direction", DIRECTIONS)
    spec = MetricSpec(score, _resize(table, "resize"), network, weights, layer, direction)
    table.close()
    return spec


def _resize(table: Fields, key: str) -> Resize | None:
    if key not in table:
        return None
    inner = table.table(key)
    try:
        return Resize.parse(inner)
    except ValueError as error:
        text = str(error)
        raise ValueError(
            text if text.startswith(inner.where) else f"{inner.where}: {text}"
        ) from None


def _plain(value: Any) -> Any:
    return dict(vars(value)) if isinstance(value, Resize) else value
