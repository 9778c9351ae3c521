"""How much two labellings of the same voxels agree, whatever their labels are called."""

from __future__ import annotations

from dataclasses import dataclass

from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from brainit_clusters.analysis._labels import Labels, aligned


@dataclass(frozen=True)
class Agreement:
    """Agreement beyond chance: 1 for the same groups, about 0 for unrelated ones.

    Attributes:
        adjusted_rand: Of pairs of voxels, in [-0.5, 1] (Hubert and Arabie, 1985).
        adjusted_mutual_information: Of labels, at most 1 (Vinh, Epps and Bailey, 2010).
    """

    adjusted_rand: float
    adjusted_mutual_information: float


def agreement(first: Labels, second: Labels) -> Agreement:
    """Compare two labellings of the same voxels of the same subjects.

    Args:
        first: Clusters, or subject -> int [N_s].
        second: The same, such as an atlas.

    Raises:
        ValueError: if they are not of the same voxels.
    """
    ours, theirs, _ = aligned(first, second)
    return Agreement(
        float(adjusted_rand_score(ours, theirs)), float(adjusted_mutual_info_score(ours, theirs))
    )
