"""Adaptation of a trained model to a new subject."""

from __future__ import annotations

from torch import nn

from brainit_bit.model import BrainInteractionTransformer


def freeze_for_adaptation(model: BrainInteractionTransformer, subject: str) -> nn.Parameter:
    """Freeze everything but one subject's voxel embeddings.

    Source: Brain-IT (arXiv 2510.25976), transfer to new subjects.

    Args:
        model: A model to which `subject` was added.
        subject: The new subject's name.

    Returns:
        The one parameter that is left to train, [N_s, D]: give it alone to the optimiser.

    Raises:
        ValueError: If the model does not know `subject`.
    """
    embedding = model.voxels(subject).embedding
    model.requires_grad_(False)
    embedding.requires_grad_(True)
    return embedding
