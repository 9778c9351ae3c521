"""What a control or a detector says: a value, its interval, and green or red by a stated rule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from brainit_eval.records.fields import Fields
from brainit_eval.records.numbers import real
from brainit_eval.statistics.bootstrap import bootstrap_mean, draw_weights, percentile_interval


@dataclass(frozen=True, eq=False)
class Reading:
    """One row of the table of controls.

    Attributes:
        name: Its key in files.
        title: What was measured, in words.
        value: The number that was measured.
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end.
        green: Whether all is well by `rule`.
        rule: What makes it green, in words.
        per_image: ``[n]`` float64 values behind it, NaN where an image cannot be judged; None
            where the value is no mean over images.
        detail: Further numbers, ready for JSON.
    """

    name: str
    title: str
    value: float
    low: float
    high: float
    green: bool
    rule: str
    per_image: np.ndarray | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, table: Fields) -> Reading:
        """Read what `as_dict` gave.

        Raises:
            ValueError: If it is something else.
        """
        reading = cls(
            name=table.text("name"),
            title=table.text("title"),
            value=table.number("value"),
            low=table.number("low"),
            high=table.number("high"),
            green=table.flag("green"),
            rule=table.text("rule"),
            detail=table.table("detail").plain(),
        )
        table.close()
        return reading

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the per-image values; NaN becomes None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {
            "name": self.name,
            "title": self.title,
            **{key: value if math.isfinite(value) else None for key, value in numbers.items()},
            "green": self.green,
            "rule": self.rule,
            "detail": self.detail,
        }


def read_interval(
    name: str,
    title: str,
    value: float,
    interval: tuple[float, float],
    limit: float,
    good: Literal["above", "below"],
    per_image: np.ndarray | None = None,
    **detail: Any,
) -> Reading:
    """A reading that is green only where the whole interval lies on the good side of `limit`.

    Too few images therefore read red: what is not shown is not taken for granted.
    """
    low, high = interval
    green = low > limit if good == "above" else high < limit  # False where NaN
    rule = f"whole interval {good} {limit:g}"
    detail = {"limit": limit, **detail}
    return Reading(name, title, value, low, high, green, rule, per_image, detail)


def read_mean(
    name: str,
    title: str,
    per_image: np.ndarray,
    limit: float,
    good: Literal["above", "below"],
    *,
    n_bootstrap: int = 2000,
    seed: int = 0,
    **detail: Any,
) -> Reading:
    """A reading of the mean over images with its bootstrap interval, by `read_interval`'s rule.

    Args:
        name: Its key in files.
        title: What was measured, in words.
        per_image: ``[n]``; NaN where an image cannot be judged, which leaves it out of the mean.
        limit: Where the good side begins.
        good: Which side is good.
        n_bootstrap: Resamples of images behind the interval.
        seed: Seed of the resamples.
        **detail: Further numbers for the reading.

    Raises:
        ValueError: If no image can be judged.
    """
    values = real(per_image, name, finite=False)
    judged = values[np.isfinite(values)]
    if judged.size == 0:
        raise ValueError(f"{name}: none of {values.size} images can be judged")
    interval = mean_interval(judged, n_bootstrap, seed)
    detail = {"n": int(judged.size), **detail}
    value = float(judged.mean())
    return read_interval(name, title, value, interval, limit, good, values, **detail)


def mean_interval(values: np.ndarray, n_bootstrap: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval over images of a mean, ``values`` ``[n]`` without NaN."""
    weights = draw_weights({"images": np.arange(len(values))}, n_bootstrap, seed)["images"]
    return percentile_interval(bootstrap_mean(values, weights))
