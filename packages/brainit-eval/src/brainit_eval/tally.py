"""From the scores of single images to a result: means, intervals, tables, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from torch import Tensor

from brainit_eval.metrics.identification import TwoWay, identify
from brainit_eval.protocol import Protocol
from brainit_eval.records.per_image import PerImage
from brainit_eval.records.result import DIRECTIONS, Result, ids_hash, rank_key
from brainit_eval.records.result_parts import MetricScore, ProtocolRecord, TestSet, WeightsRecord
from brainit_eval.statistics.bootstrap import (
    bootstrap_mean,
    bootstrap_two_way,
    draw_weights,
    percentile_interval,
)

_SUSPICIOUS = 2.0  # standard deviations above chance; a decoder that works is far beyond
_PACKAGES = (
    "brainit-eval",
    "numpy",
    "torch",
    "torchvision",
    "pillow",
    "transformers",
    "timm",
    "lpips",
    "dreamsim",
)


class Tally:
    """Takes each metric's values as they come and makes a result of them."""

    def __init__(
        self,
        protocol: Protocol,
        ids: Mapping[str, Sequence[str]],
        samples: int,
        n_bootstrap: int,
        seed: int,
    ) -> None:
        """Begin.

        Args:
            protocol: What is scored.
            ids: Per subject its image ids, in the order of all values.
            samples: Reconstructions per image.
            n_bootstrap: Resamples behind each interval.
            seed: Their seed.
        """
        self.protocol = protocol
        self.ids = ids
        self.samples = samples
        self.options = {"bootstrap": n_bootstrap, "seed": seed}
        self.weights: dict[str, WeightsRecord] = {}
        self._draws = draw_weights(ids, n_bootstrap, seed)
        self._values: dict[tuple[str, str, int], np.ndarray] = {}
        self._resampled: dict[tuple[str, str, int], np.ndarray] = {}
        self._ranks: dict[str, np.ndarray] = {}
        self._above_chance: dict[str, float] = dict.fromkeys(ids, -np.inf)

    def add(self, metric: str, subject: str, sample: int, values: np.ndarray) -> None:
        """Values ``[n]`` of a metric that scores each image by itself."""
        self._values[metric, subject, sample] = values
        self._resampled[metric, subject, sample] = bootstrap_mean(values, self._draws[subject])

    def identify(self, metric: str, subject: str, sample: int, pred: Tensor, true: Tensor) -> None:
        """Two-way identification from features ``[n, D]``, in both directions."""
        found = identify(pred, true)
        both = {direction: getattr(found, direction) for direction in DIRECTIONS}
        for direction, one in both.items():
            self._ranks[rank_key(subject, sample, metric, direction)] = one.ranks
        chosen = both[self.protocol.metrics[metric].direction]
        self._values[metric, subject, sample] = chosen.per_image
        self._resampled[metric, subject, sample] = bootstrap_two_way(
            chosen.success, self._draws[subject]
        )
        self.note_pairing(subject, chosen)

    def note_pairing(self, subject: str, found: TwoWay) -> None:
        """Remember how far an identification is above that of randomly permuted images.

        Under a random permutation each rank is uniform, whatever the pictures, so the mean has a
        standard deviation of 1 / sqrt(12 n) at most.
        """
        above = (found.value - 0.5) * float(np.sqrt(12 * len(found.ranks)))
        self._above_chance[subject] = max(self._above_chance[subject], above)

    def result(self, method: str, test_set: str, device: str, **options: int) -> Result:
        """The result, once every metric of the protocol was added for every subject and sample."""
        protocol = self.protocol
        return Result(
            method=method,
            protocol=ProtocolRecord(protocol.name, protocol.hash, protocol.settings),
            test_set=TestSet(test_set, len(set().union(*self.ids.values())), ids_hash(self.ids)),
            subjects=tuple(self.ids),
            samples=self.samples,
            metrics={name: self._score(name) for name in protocol.metrics},
            per_image=self._table(),
            ranks=self._ranks,
            weights=self.weights,
            versions=_versions(),
            device=device,
            options={**self.options, **options},
            warnings=self._warnings(),
        )

    def _score(self, metric: str) -> MetricScore:
        per_subject, resampled = {}, []
        for subject in self.ids:
            keys = [(metric, subject, sample) for sample in range(self.samples)]
            per_subject[subject] = float(np.mean([self._values[key].mean() for key in keys]))
            resampled.append(np.mean([self._resampled[key] for key in keys], axis=0))
        low, high = percentile_interval(resampled)
        value = float(np.mean(list(per_subject.values())))
        up = self.protocol.metrics[metric].higher_is_better
        return MetricScore(value, low, high, up, per_subject)

    def _table(self) -> PerImage:
        sets = [(subject, sample) for subject in self.ids for sample in range(self.samples)]
        rows = [(*key, image) for key in sets for image in self.ids[key[0]]]
        subject, sample, ids = (np.array(column) for column in zip(*rows, strict=True))
        values = {
            name: np.concatenate([self._values[name, *key] for key in sets])
            for name in self.protocol.metrics
        }
        return PerImage(subject, sample, ids, values)

    def _warnings(self) -> tuple[str, ...]:
        random = [name for name, record in self.weights.items() if record.name == "random"]
        lines = [f"random weights, for tests only: {', '.join(random)}"] if random else []
        lines += [
            f"{subject}: by no measure do reconstructions resemble their own images more than a "
            "random pairing would: check the image ids"
            for subject, above in self._above_chance.items()
            if above < _SUSPICIOUS
        ]
        return tuple(lines)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
