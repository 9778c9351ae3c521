"""The package without its extras, in a fresh process."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys

EXTRAS = ("torch", "transformers", "timm", "open_clip", "matplotlib", "nilearn", "plotly")

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import brainit_clusters
import brainit_clusters.plot
from brainit_clusters.encoder import fraction_of_ceiling, voxel_correlation
import brainit_clusters.analysis
import brainit_clusters.cli
for name in brainit_clusters.__all__:
    getattr(brainit_clusters, name)
try:
    from brainit_clusters.encoder import BrainEncoder
except ImportError as error:
    print(error)
"""


def test_imports_without_torch():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch is missing: pip install 'brainit-clusters[encoder]'"
