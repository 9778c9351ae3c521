"""What a simulated Natural Scenes Dataset consists of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SEEDS_PER_WORLD = 1_000_000
FIRST_TRAINING_SEED = 1_000_000_000
LEAST = {
    "n_subjects": 1,
    "own_images": 0,
    "shared_images": 1,
    "repeats": 2,
    "sessions": 1,
    "external_images": 0,
    "seed": 0,
}


@dataclass(frozen=True)
class SimulationConfig:
    """Size, noise and seed of a simulated world.

    Attributes:
        n_subjects: Number of subjects.
        own_images: Images that one subject alone sees.
        shared_images: Images that every subject sees.
        repeats: Times a subject sees each of its images, at least 2 (ncsnr needs two).
        sessions: Scan sessions of a subject; the trials must divide evenly among them.
        external_images: Scenes without any fMRI.
        voxels: Lowest and highest number of vertices in a subject's mask; the subjects spread
            between them.
        ncsnr: Median over voxels of the noise-ceiling signal-to-noise ratio.
        seed: Seed of everything; scene i is rendered from ``seed * 1_000_000 + i``.

    Raises:
        ValueError: If the numbers do not make an experiment.
    """

    n_subjects: int = 4
    own_images: int = 600
    shared_images: int = 100
    repeats: int = 3
    sessions: int = 10
    external_images: int = 2000
    voxels: tuple[int, int] = (1600, 2800)
    ncsnr: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that the numbers make an experiment."""
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"SimulationConfig.{name} must be at least {least}, got {value}")
        if self.n_trials % self.sessions:
            raise ValueError(
                f"SimulationConfig.sessions: {self.n_trials} trials do not divide into "
                f"{self.sessions} sessions"
            )
        if not 200 <= self.voxels[0] <= self.voxels[1] <= 5000:
            raise ValueError(f"SimulationConfig.voxels must ascend in 200..5000, got {self.voxels}")
        if self.ncsnr <= 0:
            raise ValueError(f"SimulationConfig.ncsnr must be positive, got {self.ncsnr}")
        if self.n_images + self.external_images > SEEDS_PER_WORLD:
            raise ValueError(f"SimulationConfig: more than {SEEDS_PER_WORLD} scenes")
        if (self.seed + 1) * SEEDS_PER_WORLD > FIRST_TRAINING_SEED:
            raise ValueError(f"SimulationConfig.seed must be below 1000, got {self.seed}")

    @property
    def images_per_subject(self) -> int:
        """Distinct images that one subject sees."""
        return self.own_images + self.shared_images

    @property
    def n_images(self) -> int:
        """Distinct images with fMRI, over all subjects."""
        return self.n_subjects * self.own_images + self.shared_images

    @property
    def n_trials(self) -> int:
        """Trials of one subject."""
        return self.images_per_subject * self.repeats

    @property
    def trials_per_session(self) -> int:
        """Trials of one session."""
        return self.n_trials // self.sessions

    def scene_seed(self, index: int) -> int:
        """Seed of scene ``index``: NSD images come first, external scenes after them."""
        return self.seed * SEEDS_PER_WORLD + index

    def subject_name(self, subject: int) -> str:
        """Name of a subject counted from 0, as NSD writes it: ``subj01`` and so on."""
        return f"subj{subject + 1:02d}"

    def voxel_counts(self) -> list[int]:
        """Number of mask vertices of each subject, all different where the range allows it."""
        counts = np.linspace(*self.voxels, self.n_subjects).round().astype(int)
        return [int(n) for n in np.random.default_rng([self.seed, 1]).permutation(counts)]
