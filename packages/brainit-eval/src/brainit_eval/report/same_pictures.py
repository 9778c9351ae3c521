"""Are these the pictures that were scored? A page must not show others beside their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from brainit_eval.metrics.pixels import pixel_scores
from brainit_eval.pictures.sets import Pictures
from brainit_eval.protocol import PIXEL_SCORES, Protocol
from brainit_eval.records.result import Result

_CLOSE = 1e-3  # another device moves pixel scores by less than 1e-5, another picture by far more


def check_same_pictures(
    result: Result,
    images: Mapping[str, Pictures],
    seen: Mapping[str, Pictures],
    which: Sequence[tuple[str, str]],
) -> None:
    """Score some pictures again, by a pixel score of the protocol, and compare with the result.

    Args:
        result: The result.
        images: Per subject its reconstructions, first sample.
        seen: Per subject what it saw, same ids.
        which: Subjects and image ids to look at.

    Raises:
        ValueError: Naming the first picture that scores otherwise.
    """
    protocol = _protocol(result)
    pixels = [name for name, spec in protocol.metrics.items() if spec.score in PIXEL_SCORES]
    if not pixels:
        return
    name = pixels[0]
    prepare = protocol.prepare(name)
    for subject, image in which:
        place = seen[subject].ids.index(image)
        rows = range(place, place + 1)
        pair = (prepare(pictures[subject].batch(rows)) for pictures in (images, seen))
        with torch.inference_mode():
            here = float(pixel_scores(protocol.metrics[name].score, *pair)[0])
        table = result.per_image
        mine = table.rows(subject, 0)
        there = float(table.values[name][mine][table.image_id[mine] == image][0])
        if not abs(here - there) < _CLOSE:
            raise ValueError(
                f"{images[subject].name}: image {image} scores {name} {here:.4f}, and {there:.4f} "
                "in the result: expected the pictures that were scored"
            )


def _protocol(result: Result) -> Protocol:
    """The protocol that the result's settings describe, checked field by field."""
    texts = {"name": result.protocol.name, "title": "", "about": ""}
    settings: dict[str, Any] = {"schema": 1, **texts, **_given(result.protocol.settings)}
    settings["test_set"] = _given(settings.get("test_set", {}))
    return Protocol.parse(settings, f"{result.method}: protocol")


def _given(table: Any) -> Any:
    known = isinstance(table, Mapping)
    return {k: v for k, v in table.items() if v is not None} if known else table
