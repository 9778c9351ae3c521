"""The spaces that NSD's betas come in, by name."""

from __future__ import annotations

from brainit_clusters.data.nsd.space import Space
from brainit_clusters.data.nsd.surface import Surface
from brainit_clusters.data.nsd.volume import Volume

SPACES: dict[str, Space] = {
    "fsaverage": Surface("fsaverage"),
    "nativesurface": Surface("nativesurface"),
    "func1pt8mm": Volume("func1pt8mm"),
    "func1mm": Volume("func1mm"),
}
