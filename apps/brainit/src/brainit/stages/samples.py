"""What both transformers train on: real and predicted responses, one subject a batch.

Everything stays in its file until a batch asks for its rows: the Natural Scenes Dataset's betas,
images and predicted responses to external images are ten times what fits into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainit.computing import host_memory
from brainit.run_folder import RunFolder
from brainit_clusters.data.dataset import BrainDataset
from brainit_clusters.data.external import ExternalResponses
from brainit_clusters.data.h5file import StoredRows

STATISTICS_FROM = 20_000
"""External images whose predicted responses tell their variance, evenly spread over all."""
ROWS_AT_A_TIME = 64


@dataclass(frozen=True)
class Batch:
    """Responses of one subject, the images that evoked them, and the seed of the batch's draws.

    Attributes:
        subject: Its name.
        activations: z-scored betas, float32 [B, N_s], on the host.
        images: Indices into `Samples.images`, int64 [B], on the host.
        seed: Seed of the voxels and query tokens drawn for this batch.
    """

    subject: str
    activations: Tensor
    images: Tensor
    seed: int


@dataclass(frozen=True)
class Draw:
    """What a batch will hold: rows of a subject's responses, or -1 - index of an external image."""

    subject: str
    samples: NDArray[np.int64]
    seed: int


class ImageTable:
    """Images uint8 [n, H, W, 3], read by rows: some of a dataset, then all external ones."""

    def __init__(self, real: StoredRows, rows: NDArray[np.intp], external: StoredRows) -> None:
        self.n_real = len(rows)
        self._real, self._rows, self._external = real, rows, external

    def __len__(self) -> int:
        return self.n_real + len(self._external)

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Images of some rows, in their order."""
        is_real = rows < self.n_real
        images = np.empty((len(rows), *self._real.shape[1:]), np.uint8)
        images[is_real] = self._real[self._rows[rows[is_real]]]
        images[~is_real] = self._external[rows[~is_real] - self.n_real]
        return images


class Samples:
    """Real and external samples of all subjects over one table of images.

    Attributes:
        images: The dataset's images but the test images, followed by the external ones.
        subjects: name -> what the dataset holds of a subject, its betas by rows.
        image_of: name -> index into `images` of each of a subject's rows but the test rows.
    """

    def __init__(self, run: RunFolder) -> None:
        self._dataset = BrainDataset.open(run.output("prepare", "dataset"))
        self._external = ExternalResponses.open(run.output("external", "external"))
        names = self._dataset.subjects
        self.subjects = {name: self._dataset.subject(name, in_memory=False) for name in names}
        ids = np.unique(
            np.concatenate([s.image_id[s.split != "test"] for s in self.subjects.values()])
        )
        rows = self._dataset.image_rows(ids)
        self.images = ImageTable(self._dataset.stored_images, rows, self._external.stored_images)
        self.noise = {name: self._unexplained(name) for name in names}
        self.image_of = {
            name: np.searchsorted(ids, s.image_id) for name, s in self.subjects.items()
        }
        self.seed = run.profile.seed

    def epoch(self, number: int, batch_size: int, external_per_real: float) -> Sequence[Draw]:
        """Every real training sample once; each external image as one random subject sees it.

        External images come in a new order each epoch, all of them before one comes again.

        Args:
            number: Of the epoch; with the seed it decides everything.
            batch_size: Samples a batch, on average over a subject's batches.
            external_per_real: External samples for each real one; infinity takes every external
                image once.
        """
        rng = np.random.default_rng([self.seed, number])
        chosen = self._choose_external(rng, external_per_real)
        owners = rng.integers(len(self.subjects), size=len(chosen))
        batches = []
        for index, name in enumerate(self.subjects):
            real = self.subjects[name].rows("train")
            samples = np.concatenate([real, -1 - chosen[owners == index]])
            rng.shuffle(samples)
            for part in np.array_split(samples, max(1, round(len(samples) / batch_size))):
                batches.append(Draw(name, part, int(rng.integers(2**62))))
        return [batches[i] for i in rng.permutation(len(batches))]

    def trained_images(self) -> Tensor:
        """Indices of the images that training uses, external ones included, int64 [n]."""
        real = [self.image_of[name][s.rows("train")] for name, s in self.subjects.items()]
        external = np.arange(self.images.n_real, len(self.images))
        return torch.from_numpy(np.unique(np.concatenate([*real, external])))

    def held_out(self, split: str) -> Iterator[Batch]:
        """All real samples of a split, one batch a subject."""
        for index, (name, subject) in enumerate(self.subjects.items()):
            yield self.load(Draw(name, subject.rows(split), index))

    def load(self, draw: Draw) -> Batch:
        """The responses that a draw names, read by any thread."""
        name, samples = draw.subject, draw.samples
        is_real = samples >= 0
        held = host_memory(len(samples), self.subjects[name].n_voxels, dtype=torch.float32)
        activations = held.numpy()
        activations[is_real] = _single(self.subjects[name].betas[samples[is_real]])
        predicted = _single(self._predicted(name)[-1 - samples[~is_real]])
        noise = np.random.default_rng(draw.seed).standard_normal(predicted.shape, np.float32)
        noise *= self.noise[name]
        noise += predicted
        activations[~is_real] = noise
        real_image = self.image_of[name][np.where(is_real, samples, 0)]
        images = np.where(is_real, real_image, self.images.n_real - 1 - samples)
        return Batch(name, held, torch.from_numpy(images), draw.seed)

    def _choose_external(
        self, rng: np.random.Generator, external_per_real: float
    ) -> NDArray[np.int64]:
        n_images = len(self.images) - self.images.n_real
        n_real = sum(len(s.rows("train")) for s in self.subjects.values())
        wanted = n_images if np.isinf(external_per_real) else round(external_per_real * n_real)
        rounds = max(1, ceil(wanted / max(1, n_images)))
        return np.concatenate([rng.permutation(n_images) for _ in range(rounds)])[:wanted]

    def _unexplained(self, name: str) -> NDArray[np.float32]:
        """Per voxel the standard deviation that measured responses have beyond predicted ones.

        Predictions carry neither noise nor what the encoder misses. Without it a decoder learns to
        trust patterns that no scan is clean enough to show.
        """
        subject, predicted = self.subjects[name], self._predicted(name)
        rows = np.linspace(0, len(predicted) - 1, min(len(predicted), STATISTICS_FROM))
        measured = row_variance(subject.betas, subject.rows("train"))
        gap = measured - row_variance(predicted, rows.astype(np.intp))
        result: NDArray[np.float32] = np.sqrt(gap.clip(min=0))
        return result

    def _predicted(self, name: str) -> StoredRows:
        return self._external.stored_responses[name]


def row_variance(values: StoredRows | NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Variance over some rows [n_columns], as `values[rows].var(0)` in float32, bit for bit.

    Only some rows are in memory at a time; their sums go on from row to row, as numpy's do.
    """
    parts = np.array_split(rows, ceil(len(rows) / ROWS_AT_A_TIME))

    def mean(of: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> NDArray[np.float32]:
        return _sum_of_rows(of(_single(values[part])) for part in parts) / np.float32(len(rows))

    centre = mean(lambda part: part)
    return mean(lambda part: np.square(part - centre))


def _sum_of_rows(parts: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    total: Any = np.float32(0)
    for part in parts:
        part[0] += total
        total = part.sum(0)
    return np.asarray(total)


def _single(values: NDArray[Any]) -> NDArray[np.float32]:
    """In single precision; torch does it several times faster than numpy."""
    return torch.from_numpy(values).float().numpy()
