"""Checks of an installation that need neither a network connection nor weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from brainit_eval.benchmark import Benchmark
from brainit_eval.feature_cache import FeatureCache
from brainit_eval.metrics.identification import two_way
from brainit_eval.metrics.pixels import ssim, ssim_columns
from brainit_eval.networks import NETWORKS, WeightStore
from brainit_eval.pictures.sets import from_arrays
from brainit_eval.protocol import Protocol, frozen_protocols
from brainit_eval.records.result import Result

_IMAGES = 4


def found_weights(folder: Path | None = None) -> list[tuple[str, str, str]]:
    """Per network and weights, where they are; nothing is fetched.

    Args:
        folder: Folder of weight files, or None.
    """
    store = WeightStore(folder, download=False)
    rows = []
    for info in NETWORKS.values():
        for name, file in info.files.items():
            if file.url:
                place = str(store.find(file) or "not here")
            else:
                here = find_spec(file.name.replace("-", "_")) is not None
                place = f"package {file.name} {'is installed' if here else 'is not installed'}"
            rows.append((info.title, name, place))
    return rows


def checks() -> Iterator[tuple[str, str]]:
    """Run all checks.

    Yields:
        Name of a check, and ``passed``, ``skipped: why`` or ``FAILED: why``.
    """
    for name in frozen_protocols():
        protocol = replace(Protocol.load(name), n_images=None, truth_size=None)
        pixels = tuple(k for k, spec in protocol.metrics.items() if not spec.network)
        yield f"{name}, pixels", _outcome(_perfect, protocol.only(pixels))
        if name in ("mindeye2-1000", "offline"):  # the other protocols have the same networks
            for metric in [key for key in protocol.metrics if key not in pixels]:
                yield f"{name}, {metric}", _outcome(_perfect, protocol.only((metric,)))
    yield "SSIM, both forms", _outcome(_ssim)
    yield "direction of identification", _outcome(_direction)
    yield "a wrong pairing is noticed", _outcome(_pairing)


def _pictures(n: int, size: int, seed: int = 0) -> Tensor:
    """Smooth coloured noise: varied enough for every metric."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 9, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    return (0.8 * smooth + 0.2 * torch.rand(n, 3, size, size, generator=generator)).clamp(0, 1)


def _outcome(check: Callable[..., None], *args: object) -> str:
    try:
        check(*args)
    except ImportError as error:
        return f"skipped: {error}"
    except Exception as error:  # a check that breaks is a finding, not the end
        return f"FAILED: {type(error).__name__}: {error}"
    return "passed"


def _require(truth: bool, what: str) -> None:
    if not truth:
        raise ValueError(what)


def _perfect(protocol: Protocol) -> None:
    """What was seen, as its own reconstruction: every metric at its best, and kept on disk."""
    pictures = from_arrays(_pictures(_IMAGES, 64), range(_IMAGES))
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder, "cache"))
        benchmark = Benchmark(protocol, pictures, store=None, cache=cache, n_bootstrap=20)
        result = benchmark.score({"self": [pictures]}, "Perfect")
        read = Result.read(result.write(Path(folder, "result")))
    for name, score in read.metrics.items():
        best = 1.0 if score.higher_is_better else 0.0
        _require(abs(score.value - best) < 1e-9, f"{name}: expected {best}, got {score.value}")


def _ssim() -> None:
    """Constant pictures: only the luminance term is left, known in closed form."""
    x, y = torch.full((2, 3, 16, 16), 0.25), torch.full((2, 3, 16, 16), 0.75)
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    for form in (ssim, ssim_columns):
        value = float(form(x, y)[0])
        _require(abs(value - expected) < 1e-6, f"expected {expected:.6f}, got {value:.6f}")


def _direction() -> None:
    """Image 0 is a hub that every reconstruction resembles: the two directions differ."""
    true = torch.eye(4)[:3]
    pred = torch.tensor([[3.0, 0, 0, 0], [2, 1, 0, 0], [2, 0, 1, 0]])
    ranks = two_way(pred, true).ranks.tolist()
    _require(ranks == [0, 1, 1], f"expected ranks 0, 1, 1, got {ranks}")


def _pairing() -> None:
    pictures = _pictures(12, 32)
    truth = from_arrays(pictures, range(12))
    shifted = from_arrays(pictures.roll(1, 0), range(12))
    protocol = Protocol.load("offline").only(("pixcorr",))
    result = Benchmark(protocol, truth, store=None, n_bootstrap=1).score({"self": [shifted]}, "x")
    _require(any("image ids" in line for line in result.warnings), "expected a warning")
