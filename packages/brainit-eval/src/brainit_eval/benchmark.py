"""Score reconstructions under a protocol, batch by batch: memory does not grow with their number.

Only features are kept until an identification is done, on disk and memory-mapped.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from brainit_eval.feature_cache import FeatureCache, read_features, write_features
from brainit_eval.metrics.identification import two_way
from brainit_eval.metrics.pixels import correlate_rows, pixel_scores
from brainit_eval.networks import NETWORKS, WeightStore, load_network
from brainit_eval.networks.base import Network, PairNetwork
from brainit_eval.pictures.resize import Resize
from brainit_eval.pictures.sets import Pictures, match_ids, of_subject
from brainit_eval.protocol import PIXEL_SCORES, MetricSpec, Protocol
from brainit_eval.records.labels import check_label
from brainit_eval.records.result import Result
from brainit_eval.tally import Tally

_THUMBNAIL = (16, 16)  # enough to see whether reconstructions and true images belong together
_ROWS = 64  # of features, for distances

Sets = Mapping[str, Sequence[Pictures]]
_Pairs = Mapping[tuple[str, int], tuple[Pictures, Pictures]]


@dataclass(frozen=True)
class _Look:
    """One network at one size of picture, and the metrics that it gives."""

    network: str
    weights: str
    resize: Resize | None
    metrics: Mapping[str, MetricSpec]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(sorted({spec.layer for spec in self.metrics.values()}))


class Benchmark:
    """A protocol and the true images; scores any number of methods against them."""

    def __init__(
        self,
        protocol: Protocol,
        truth: Pictures | Mapping[str, Pictures],
        *,
        store: WeightStore | None,
        cache: FeatureCache | None = None,
        test_set: str = "",
        device: str | torch.device = "cpu",
        batch_size: int = 32,
        n_bootstrap: int = 2000,
        seed: int = 0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Prepare to score.

        Args:
            protocol: How.
            truth: The images seen: one set for all subjects, or one per subject.
            store: Where weights lie. None: random weights, for tests of the machinery only.
            cache: Where features of true images are kept.
            test_set: Name of the test set, where the protocol leaves it open.
            device: Where networks run; always in float32.
            batch_size: Pictures at a time.
            n_bootstrap: Resamples behind each interval.
            seed: Seed of the resamples.
            say: Told what is being done.

        Raises:
            ValueError: If the true images are not those of the protocol.
        """
        self.protocol = protocol
        self.truth = truth
        self.store = store
        self.cache = cache or FeatureCache()
        self.test_set = _test_set(protocol, test_set)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.n_bootstrap = n_bootstrap
        self.seed = seed
        self.say = say
        for pictures in [truth] if isinstance(truth, Pictures) else truth.values():
            _check_truth(pictures, protocol)
        self._hashes: dict[int, str] = {}

    def score(self, images: Sets, method: str) -> Result:
        """Score one method.

        Args:
            images: Per subject one set of reconstructions per sample, as many for every subject.
            method: Its name.

        Returns:
            Scores, tables, ranks and all that is needed to repeat them.

        Raises:
            ImportError: If a network's library is not installed.
            FileNotFoundError: If weights are not here and cannot be fetched.
            ValueError: If ids, sizes or values are not as they must be; the line says where.
        """
        pairs = self._pairs(images)
        ids = {subject: true.ids for (subject, _), (_, true) in pairs.items()}
        samples = len(pairs) // len(ids)
        tally = Tally(self.protocol, ids, samples, self.n_bootstrap, self.seed)
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            self._score_pixels(pairs, tally)
            for look in _looks(self.protocol):
                self._score_look(look, pairs, tally)
        first, true = next(iter(pairs.values()))
        sizes = {"truth_px": true.size, "reconstruction_px": first.size}
        return tally.result(method, self.test_set, self.device.type, **sizes)

    def _pairs(self, images: Sets) -> _Pairs:
        counts = {len(samples) for samples in images.values()}
        if len(counts) != 1 or counts == {0}:
            raise ValueError("images: expected subjects with as many samples each, at least one")
        pairs = {}
        for subject, samples in images.items():
            true = of_subject(self.truth, subject)
            for sample, pictures in enumerate(samples):
                match_ids(pictures, true)
                pairs[subject, sample] = (pictures, true)
        if len({(pictures.size, true.size) for pictures, true in pairs.values()}) != 1:
            raise ValueError("images: expected one size in pixels for all subjects and samples")
        return pairs

    def _score_pixels(self, pairs: _Pairs, tally: Tally) -> None:
        """Pixel scores, and thumbnails that tell whether pictures and ids belong together."""
        metrics = self.protocol.metrics
        by_size: dict[Resize | None, list[str]] = {}
        for name, spec in metrics.items():
            if spec.score in PIXEL_SCORES:
                by_size.setdefault(spec.resize, []).append(name)
        for (subject, sample), pair in pairs.items():
            self.say(f"pixels: {subject}, sample {sample}")
            n = len(pair[0])
            # Made before the work: what is kept between large pictures would keep their memory too.
            found = {name: np.empty(n) for names in by_size.values() for name in names}
            pred, true = (torch.empty(n, 3 * math.prod(_THUMBNAIL)) for _ in pair)
            for rows in self._batches(pair[0]):
                part = slice(rows.start, rows.stop)
                a, b = (self._pictures(pictures, rows) for pictures in pair)
                pred[part], true[part] = _thumbnails(a), _thumbnails(b)
                for resize, names in by_size.items():
                    resized = _resized(a, resize), _resized(b, resize)
                    for name in names:
                        values = pixel_scores(metrics[name].score, *resized)
                        found[name][part] = values.cpu().numpy()
            for name, scores in found.items():
                tally.add(name, subject, sample, scores)
            tally.note_pairing(subject, two_way(pred, true))

    def _score_look(self, look: _Look, pairs: _Pairs, tally: Tally) -> None:
        title = NETWORKS[look.network].title
        self.say(f"{title}: loading")
        network = load_network(look.network, look.weights, self.store)
        network.to(self.device)
        tally.weights[f"{look.network}-{look.weights}"] = network.record
        for (subject, sample), (images, true) in pairs.items():
            self.say(f"{title}: {subject}, sample {sample}")
            if NETWORKS[look.network].layers:
                features_true = self._true_features(network, look, true)
                with self._kept(network, look, images) as features:
                    _compare(look, subject, sample, features, features_true, tally)
            else:
                values = self._distances(network, look, images, true).numpy()
                for name in look.metrics:
                    tally.add(name, subject, sample, values)

    def _true_features(self, network: Network, look: _Look, true: Pictures) -> dict[str, Tensor]:
        if id(true) not in self._hashes:
            self._hashes[id(true)] = true.sha256()
        key = {
            "protocol": self.protocol.hash,
            "network": f"{look.network} {look.resize} {look.layers}",
            "weights": network.record.sha256,
            "images": self._hashes[id(true)],
            "torch": f"{torch.__version__} {self.device.type}",
        }
        return self.cache.get(key, len(true), lambda: self._features(network, look, true))

    @contextmanager
    def _kept(self, network: Network, look: _Look, images: Pictures) -> Iterator[dict[str, Tensor]]:
        """Features of reconstructions, on disk for as long as they are compared."""
        self.cache.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".scoring-", dir=self.cache.folder) as folder:
            path = Path(folder, "features.safetensors")
            write_features(path, len(images), self._features(network, look, images))
            yield read_features(path)

    def _features(
        self, network: Network, look: _Look, pictures: Pictures
    ) -> Iterator[dict[str, Tensor]]:
        for rows in self._batches(pictures):
            images = _resized(self._pictures(pictures, rows), look.resize)
            features = network(images, look.layers)
            for layer, values in features.items():
                bad = (~torch.isfinite(values).all(1)).nonzero()
                if len(bad):
                    name = f"{pictures.name}: image {pictures.ids[rows[int(bad[0])]]}"
                    raise ValueError(f"{name}: {look.network} gives NaN at {layer}")
            yield features

    def _distances(
        self, network: PairNetwork, look: _Look, images: Pictures, true: Pictures
    ) -> Tensor:
        distances = torch.empty(len(true), dtype=torch.float64)
        for rows in self._batches(true):
            pair = (_resized(self._pictures(x, rows), look.resize) for x in (images, true))
            distances[rows.start : rows.stop] = network(*pair).cpu()
        return distances

    def _pictures(self, pictures: Pictures, rows: range) -> Tensor:
        return _resized(pictures.batch(rows).to(self.device), self.protocol.front)

    def _batches(self, pictures: Pictures) -> Iterator[range]:
        n, size = len(pictures), self.batch_size
        return (range(start, min(start + size, n)) for start in range(0, n, size))


def _test_set(protocol: Protocol, name: str) -> str:
    if protocol.test_set and name not in ("", protocol.test_set):
        raise ValueError(f"{protocol.name}: is for test set {protocol.test_set}, got {name!a}")
    return check_label(protocol.test_set or name or "unnamed", "test set")


def _check_truth(pictures: Pictures, protocol: Protocol) -> None:
    n, size = protocol.n_images, protocol.truth_size
    if n is not None and len(pictures) != n:
        raise ValueError(f"{pictures.name}: {protocol.name} has {n} images, got {len(pictures)}")
    if size is not None and pictures.size != size:
        raise ValueError(
            f"{pictures.name}: {protocol.name} wants true images of {size} px, got {pictures.size}"
        )


def _looks(protocol: Protocol) -> list[_Look]:
    """Metrics by network and size: what shares both passes through the network once."""
    groups: dict[tuple[str, str, Resize | None], dict[str, MetricSpec]] = {}
    for name, spec in protocol.metrics.items():
        if spec.network:
            groups.setdefault((spec.network, spec.weights, spec.resize), {})[name] = spec
    return [
        _Look(network, weights, resize, metrics)
        for (network, weights, resize), metrics in groups.items()
    ]


def _compare(
    look: _Look,
    subject: str,
    sample: int,
    features: Mapping[str, Tensor],
    features_true: Mapping[str, Tensor],
    tally: Tally,
) -> None:
    for name, spec in look.metrics.items():
        pred, true = features[spec.layer], features_true[spec.layer]
        if spec.score == "two_way":
            tally.identify(name, subject, sample, pred, true)
        else:
            rows = zip(pred.split(_ROWS), true.split(_ROWS), strict=True)
            distance = torch.cat([1 - correlate_rows(a, b) for a, b in rows])
            tally.add(name, subject, sample, distance.numpy())


def _resized(images: Tensor, resize: Resize | None) -> Tensor:
    return images if resize is None else resize(images)


def _thumbnails(images: Tensor) -> Tensor:
    return interpolate(images, _THUMBNAIL, mode="bilinear", antialias=True).flatten(1).cpu()
