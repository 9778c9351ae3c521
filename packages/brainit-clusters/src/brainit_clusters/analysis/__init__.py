"""How far to trust the clusters, and what they are (numpy, scipy and scikit-learn alone)."""

from brainit_clusters.analysis.agreement import Agreement, agreement
from brainit_clusters.analysis.baselines import (
    Homogeneity,
    coordinate_clusters,
    homogeneity,
    kmeans_clusters,
)
from brainit_clusters.analysis.compactness import Compactness, mesh_edges, spatial_compactness
from brainit_clusters.analysis.comparison import (
    GroupingScores,
    compare_groupings,
    standard_groupings,
    voxel_coordinates,
)
from brainit_clusters.analysis.composition import Composition, composition
from brainit_clusters.analysis.enrichment import Enrichment, roi_enrichment
from brainit_clusters.analysis.jsonable import jsonable
from brainit_clusters.analysis.number import NumberOfClusters, choose_n_clusters
from brainit_clusters.analysis.preference import (
    ClusterResponses,
    Preference,
    cluster_responses,
    label_preference,
)
from brainit_clusters.analysis.significance import corrected, permutation_p
from brainit_clusters.analysis.spin import Spins, SpunAgreement, spun_agreement
from brainit_clusters.analysis.stability import (
    Stability,
    half_stability,
    seed_stability,
    subject_stability,
)
from brainit_clusters.analysis.summary import summarise

__all__ = [
    "Agreement",
    "ClusterResponses",
    "Compactness",
    "Composition",
    "Enrichment",
    "GroupingScores",
    "Homogeneity",
    "NumberOfClusters",
    "Preference",
    "Spins",
    "SpunAgreement",
    "Stability",
    "agreement",
    "choose_n_clusters",
    "cluster_responses",
    "compare_groupings",
    "composition",
    "coordinate_clusters",
    "corrected",
    "half_stability",
    "homogeneity",
    "jsonable",
    "kmeans_clusters",
    "label_preference",
    "mesh_edges",
    "permutation_p",
    "roi_enrichment",
    "seed_stability",
    "spatial_compactness",
    "spun_agreement",
    "standard_groupings",
    "subject_stability",
    "summarise",
    "voxel_coordinates",
]
