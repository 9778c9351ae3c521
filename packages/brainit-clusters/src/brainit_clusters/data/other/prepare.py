"""From anybody's single-trial betas to the one `dataset.h5`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from brainit_clusters._files import fingerprint
from brainit_clusters.data.dataset import SubjectData, write_dataset
from brainit_clusters.data.other.stimuli import Stimuli, open_images
from brainit_clusters.data.other.trials import TrialData
from brainit_clusters.data.sessions import Normalisation, Session
from brainit_clusters.data.split import split_images
from brainit_clusters.data.subject import Recording, subject_data


@dataclass(frozen=True, kw_only=True)
class TrialsConfig:
    """How single trials become a dataset.

    Attributes:
        image_size: Side of the stored images in pixels.
        normalisation: How betas are z-scored within a session: "published" by all its trials,
            test trials included, as Brain-IT does; "leak-free" by its training trials alone.
        test_images: Names of the test images, as in the trial tables; None: a seeded draw.
        test_fraction: Share of all images in that draw.
        validation_fraction: Share of the images that are not test images that is held out.
        seed: Chooses them.
    """

    image_size: int = 224
    normalisation: Normalisation = "published"
    test_images: tuple[str, ...] | None = None
    test_fraction: float = 0.1
    validation_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.normalisation not in ("published", "leak-free"):
            raise ValueError(
                f"normalisation is {self.normalisation!r}, expected 'published' or 'leak-free'"
            )
        for name in ("test_fraction", "validation_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not in [0, 1)")
        if self.image_size < 1:
            raise ValueError(f"image_size is {self.image_size}, expected at least 1")


def prepare_trials(
    output: str | Path, subjects: Sequence[TrialData], images: str | Path, config: TrialsConfig
) -> Path:
    """Write a dataset from single-trial betas.

    Two sessions of one subject are in memory at a time; a hidden folder beside the output holds the
    z-scored sessions of one subject while it is written. As in `prepare_nsd`, voxels are z-scored
    in each session and averaged over repeats, and what is of no use is dropped (`subject_data`);
    the subject's attribute `dropped_vertices` says how many. Noise ceilings come from the repeats,
    those of test images too; where no image was repeated they are NaN. A split holds for an image,
    whoever sees it.

    Args:
        output: The dataset file to write.
        subjects: From `read_arrays`, `read_nifti`, `read_gifti` ...
        images: A folder of image files named in the trial tables, or an array; see `open_images`.
        config: Normalisation, image size and split.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: naming the first missing file.
        ValueError: naming the file and field that cannot be right.
    """
    names = [subject.name for subject in subjects]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"subjects are {names}, expected at least one and no name twice")
    stimuli = open_images(
        images, {str(name) for data in subjects for name in data.table.image}, config.image_size
    )
    split = _splits(subjects, stimuli, config)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        return write_dataset(
            output,
            stimuli,
            stimuli.image_id,
            _subjects(subjects, stimuli, split, config, Path(folder)),
            _attributes(subjects, images, stimuli, config),
        )


def _splits(
    subjects: Sequence[TrialData], stimuli: Stimuli, config: TrialsConfig
) -> NDArray[np.str_]:
    """The split of every image: str [n_images]."""
    ids, id_of = stimuli.image_id, stimuli.id_of
    given = [data.table.split is not None for data in subjects]
    if any(given) and (not all(given) or config.test_images is not None):
        raise ValueError("split: expected a column in every trial table, or test_images, not both")
    if any(given):
        return _split_column(subjects, stimuli)
    if config.test_images is None:
        drawn = split_images(ids, ids[:0], config.test_fraction, (config.seed, 1))
        test = ids[drawn == "val"]
    elif unknown := sorted(set(config.test_images) - set(id_of)):
        raise ValueError(f"test_images: no trial shows {unknown[0]!r}")
    else:
        test = np.array([id_of[name] for name in config.test_images], np.int64)
    return split_images(ids, test, config.validation_fraction, (config.seed, 0))


def _split_column(subjects: Sequence[TrialData], stimuli: Stimuli) -> NDArray[np.str_]:
    found: dict[int, str] = {}
    for data in subjects:
        splits = cast(NDArray[np.str_], data.table.split)
        for name, split in zip(data.table.image, splits, strict=True):
            if (first := found.setdefault(stimuli.id_of[name], str(split))) != split:
                raise ValueError(
                    f"{data.table.where}: column split: image {name} is {split}, elsewhere {first}"
                )
    return np.array([found[image] for image in stimuli.image_id.tolist()])


def _subjects(
    subjects: Sequence[TrialData],
    stimuli: Stimuli,
    split: NDArray[np.str_],
    config: TrialsConfig,
    folder: Path,
) -> Iterator[SubjectData]:
    for data in subjects:
        shown = np.array([stimuli.id_of[name] for name in data.table.image], np.int64)
        own = split[np.searchsorted(stimuli.image_id, np.unique(shown))]
        recording = Recording(data.name, _sessions(data), shown, data.places, data.ncsnr)
        yield subject_data(recording, own, config.normalisation, "average", folder / data.name)


def _sessions(data: TrialData) -> list[Session]:
    labels = data.table.session
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    return [
        Session(
            f"{data.name}: session {labels[now[0]]} of {data.table.where}",
            now,
            partial(_read, data, now),
        )
        for now in np.split(np.arange(len(labels)), starts[1:])
    ]


def _read(data: TrialData, trials: NDArray[np.intp], columns: slice) -> NDArray[np.float32]:
    return data.betas.read(trials)[:, columns]


def _attributes(
    subjects: Sequence[TrialData], images: str | Path, stimuli: Stimuli, config: TrialsConfig
) -> dict[str, Any]:
    files = [path for data in subjects for path in data.betas.files]
    if not Path(images).is_dir():
        files += stimuli.files
    spaces = sorted({data.space for data in subjects})
    return (
        asdict(config)
        | _mesh(subjects)
        | {
            "source": "own data",
            "space": spaces[0] if len(spaces) == 1 else spaces,
            "image_names": stimuli.names,
            "test_set": "split column" if subjects[0].table.split is not None else _drawn(config),
            "input_hashes": {str(path): f"fingerprint:{fingerprint(path)}" for path in files},
        }
    )


def _mesh(subjects: Sequence[TrialData]) -> dict[str, int]:
    """Vertices of a whole hemisphere, where the files of all subjects say the same."""
    shapes = [data.places.shape or () for data in subjects]
    counts = {n for shape in shapes for n in shape if n}
    known = len(counts) == 1 and all(len(shape) == 2 for shape in shapes)
    return {"n_vertices_per_hemisphere": counts.pop()} if known else {}


def _drawn(config: TrialsConfig) -> str:
    return "seeded draw" if config.test_images is None else "given images"
