from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from brainit_eval.metrics.retrieval import retrieve


def decoded(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(n, 4, 16, generator=generator) + 0.5  # a common part: cosine is not Pearson
    return true + 3 * torch.randn(n, 4, 16, generator=generator), true


def test_ranks_are_those_of_normalised_tokens_in_both_directions() -> None:
    brain, image = decoded(40)
    b, i = (F.normalize(tokens.flatten(1).double(), dim=1) for tokens in (brain, image))
    similarity = (b @ i.T).numpy()  # rows brains, columns images
    own = np.diag(similarity)
    found = retrieve(brain, image)
    np.testing.assert_array_equal(found.brain_to_image.ranks, (similarity > own[:, None]).sum(1))
    np.testing.assert_array_equal(found.image_to_brain.ranks, (similarity > own).sum(0))
    assert found.top(1, 40)["brain_to_image"] == (similarity.argmax(1) == np.arange(40)).mean()
    assert found.top(1, 40)["image_to_brain"] == (similarity.argmax(0) == np.arange(40)).mean()


def test_an_asymmetric_fixture_fixes_the_names() -> None:
    # All brains decode to something near image 0: given a brain, image 0 is picked each time.
    # Given image 1 or 2, its own brain is still the nearest.
    image = torch.eye(3)
    brain = torch.tensor([[3.0, 0, 0], [2, 1, 0], [2, 0, 1]])
    found = retrieve(brain, image)
    assert found.brain_to_image.ranks.tolist() == [0, 1, 1]
    assert found.image_to_brain.ranks.tolist() == [0, 0, 0]
    assert found.top(1, 3) == {"brain_to_image": 1 / 3, "image_to_brain": 1.0}


def test_the_exact_expectation_is_what_draws_of_pools_approach() -> None:
    brain, image = decoded(60)
    found = retrieve(brain, image)
    b, i = (F.normalize(tokens.flatten(1).double(), dim=1) for tokens in (brain, image))
    similarity = (b @ i.T).numpy()
    generator = np.random.default_rng(0)
    scores = []
    for _ in range(2000):
        pool = generator.permutation(60)[:20]
        part = similarity[np.ix_(pool, pool)]
        scores.append((part.argmax(1) == np.arange(20)).mean())
    error = np.std(scores) / np.sqrt(len(scores))
    assert found.top(1, 20)["brain_to_image"] == pytest.approx(np.mean(scores), abs=4 * error)


def test_nothing_decoded_finds_nothing() -> None:
    brain, image = decoded(5)
    brain[3] = 0
    assert retrieve(brain, image).brain_to_image.ranks[3] == 4
    assert retrieve(image, image).top(1, 5) == {"brain_to_image": 1.0, "image_to_brain": 1.0}
