"""Values of voxels drawn on the inflated cortex (extra `[plot]`)."""

from brainit_clusters.plot.cortex import N_VERTICES
from brainit_clusters.plot.page import write_page
from brainit_clusters.plot.picture import plot_clusters, plot_values

__all__ = ["N_VERTICES", "plot_clusters", "plot_values", "write_page"]
