"""What each metric is called, which way is better, and what chance gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One column of the score table.

    Attributes:
        name: Key in ``scores.json``.
        label: Column title.
        note: One line that says what is compared.
        chance: Expected value without information, or None if it is not known beforehand.
        percent: Whether values in [0, 1] are shown as per cent.
        higher_is_better: Direction.
    """

    name: str
    label: str
    note: str
    chance: float | None = None
    percent: bool = False
    higher_is_better: bool = True


def _identification(name: str, label: str, where: str) -> Metric:
    note = f"two-way identification by correlation of {where}"
    return Metric(f"two_way_{name}", label, note, chance=0.5, percent=True)


def _distance(name: str, label: str, note: str) -> Metric:
    return Metric(name, label, note, higher_is_better=False)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("pixcorr", "PixCorr", "Pearson correlation of all pixel values", chance=0.0),
        Metric("ssim", "SSIM", "structural similarity of the greyscale images"),
        _identification("early", "Two-way, early", "an early convolutional layer"),
        _identification("late", "Two-way, late", "the last pooled layer"),
        _identification("clip", "Two-way, CLIP", "CLIP image embeddings"),
        _identification("alexnet2", "AlexNet(2)", "AlexNet's second convolution"),
        _identification("alexnet5", "AlexNet(5)", "AlexNet's fifth convolution"),
        _identification("inception", "Inception", "InceptionV3's pooled features"),
        _distance("effnet", "EffNet-B", "1 − correlation of EfficientNet-B1 features"),
        _distance("swav", "SwAV", "1 − correlation of SwAV ResNet50 features"),
        _distance("lpips", "LPIPS", "learned perceptual distance (Zhang et al. 2018)"),
        _distance("dreamsim", "DreamSim", "learned perceptual distance (Fu et al. 2023)"),
    )
}


def metric_of(name: str) -> Metric:
    """The metric of that name; any ``two_way_*`` is known, also one of another network.

    Raises:
        ValueError: If the name is neither in `METRICS` nor starts with ``two_way_``.
    """
    if name in METRICS:
        return METRICS[name]
    if name.startswith("two_way_"):
        suffix = name.removeprefix("two_way_")
        return _identification(suffix, f"Two-way, {suffix}", f"{suffix} features")
    raise ValueError(f"unknown metric {name!r}; expected one of {', '.join(METRICS)} or two_way_*")
