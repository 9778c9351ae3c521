"""Detectors of the failure signs of reconstructions; each gives a `Reading`."""

from __future__ import annotations

from brainit_eval.detectors.branches import branch_agreement
from brainit_eval.detectors.kinds import far_from_training, weak_categories
from brainit_eval.detectors.spectrum import inversion_artefacts, over_smoothness

__all__ = [
    "branch_agreement",
    "far_from_training",
    "inversion_artefacts",
    "over_smoothness",
    "weak_categories",
]
