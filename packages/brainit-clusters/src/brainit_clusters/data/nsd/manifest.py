"""Which files a dataset was made from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from brainit_clusters._files import fingerprint, sha256
from brainit_clusters.data.nsd.scans import Scans


def input_hashes(
    root: Path, small: Iterable[Path], large: Iterable[Path], scans: Iterable[Scans]
) -> dict[str, str]:
    """A hash of every file that is read, by its path below the root.

    Args:
        root: NSD root.
        small: Tables; hashed whole, and left out where they are not there.
        large: Images; their size and their first and last 4 KiB are hashed, as those of betas:
            NSD has terabytes of them.
        scans: Beta files, masks, atlases and noise of each subject.
    """
    small, large = list(small), list(large)
    for scan in scans:
        atlases = scan.space.atlases(scan.root, scan.subject)
        labels = [scan.space.label_files(scan.root, scan.subject, name) for name in atlases]
        tables = [scan.space.colour_table(scan.root, scan.subject, name) for name in atlases]
        small += [*scan.mask_files, *scan.noise_files, *tables]
        small += [path for paths in labels for path in paths]
        large += [path for paths in scan.files.values() for path in paths]
    hashes = {path: f"sha256:{sha256(path)}" for path in dict.fromkeys(small) if path.is_file()}
    hashes |= {path: f"fingerprint:{fingerprint(path)}" for path in large if path.is_file()}
    return {_name(root, path): value for path, value in hashes.items()}


def _name(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
