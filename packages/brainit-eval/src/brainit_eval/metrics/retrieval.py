"""Retrieval between decoded image embeddings and true ones, named by what is looked up.

The published labels are easily mixed up: in the code behind several tables the score called
"image retrieval" picks a brain for each image, while the texts describe the opposite. Published
scores are means over random pools of 300; ranks give their expectation exactly, without draws.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from brainit_eval.metrics.identification import TwoWay, identify


@dataclass(frozen=True)
class Retrieval:
    """Both directions of retrieval.

    Attributes:
        brain_to_image: A brain is given, its image is picked among all.
        image_to_brain: An image is given, its brain is picked among all.
    """

    brain_to_image: TwoWay
    image_to_brain: TwoWay

    def top(self, k: int = 1, ways: int | None = 300) -> dict[str, float]:
        """Expected top-k accuracy of both directions in pools of ``ways``; see `Ranks.top`."""
        return {
            "brain_to_image": self.brain_to_image.all().top(k, ways),
            "image_to_brain": self.image_to_brain.all().top(k, ways),
        }


def retrieve(decoded: Tensor, embeddings: Tensor) -> Retrieval:
    """Rank all candidates by the cosine of flattened, L2-normalised tokens.

    Args:
        decoded: What was decoded from brains, ``[n, D]`` or ``[n, tokens, D]``.
        embeddings: True embeddings of the images, same shape, same order.

    Returns:
        Ranks in both directions; ties and NaN count as failures, as in `two_way`.

    Raises:
        ValueError: If shapes differ or there are fewer than 2 pairs.
    """
    found = identify(decoded, embeddings, cosine=True)
    return Retrieval(found.reconstruction_fixed, found.image_fixed)
