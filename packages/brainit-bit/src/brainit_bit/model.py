"""Brain Interaction Transformer: voxel activations of any known subject to image features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

import torch
from numpy.typing import ArrayLike
from torch import Generator, Tensor, nn

from brainit_bit import checkpoint
from brainit_bit.checks import (
    check_queries,
    checked_activations,
    checked_labels,
    checked_multiplicity,
    stacked,
)
from brainit_bit.cross_transformer import CrossTransformer
from brainit_bit.subjects import SubjectVoxels, initial_std
from brainit_bit.tokenizer import BrainTokenizer


@dataclass(frozen=True)
class BITConfig:
    """Sizes of a Brain Interaction Transformer; the defaults are the semantic one's of Brain-IT.

    Attributes:
        n_clusters: Functional clusters, K.
        dim: Width of embeddings and tokens, D.
        n_heads: Attention heads of the cross-transformer; divides `dim`.
        n_rounds: Rounds of self-attention and cross-attention after the first cross block.
        mlp_ratio: Width of every MLP over `dim`.
        n_query_tokens: Output tokens, T.
        output_dim: Feature size of an output token.
    """

    n_clusters: int = 128
    dim: int = 512
    n_heads: int = 8
    n_rounds: int = 5
    mlp_ratio: int = 4
    n_query_tokens: int = 256
    output_dim: int = 1664

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "n_rounds" else 1
            if type(value) is not int or value < least:
                raise ValueError(f"BITConfig.{name}: expected an integer >= {least}, got {value!r}")
        if self.dim % self.n_heads:
            raise ValueError(f"BITConfig.n_heads: {self.n_heads} does not divide dim {self.dim}")

    @classmethod
    def semantic(cls) -> Self:
        """OpenCLIP ViT-bigG/14 patch tokens: 256 of 1,664 (Brain-IT, arXiv 2510.25976)."""
        return cls()

    @classmethod
    def low_level(cls) -> Self:
        """VGG tokens of five levels: 7,190 of 512 (Brain-IT, arXiv 2510.25976)."""
        return cls(n_query_tokens=7190, output_dim=512)


class BITOutput(NamedTuple):
    """What a forward pass returns.

    Attributes:
        features: Predicted image features, [B, Q, output_dim].
        attention: One map [B, heads, Q, K] for every cross block, or None.
    """

    features: Tensor
    attention: tuple[Tensor, ...] | None


class BrainInteractionTransformer(nn.Module):
    """fMRI activations to localised image features (Brain-IT, arXiv 2510.25976).

    All weights are shared by all subjects and clusters, except one embedding per voxel. Initial
    weights come from torch's global generator (`torch.manual_seed`).

    Args:
        config: The model's sizes.
    """

    def __init__(self, config: BITConfig) -> None:
        super().__init__()
        self.config = config
        tokens = torch.randn(config.n_query_tokens, config.dim) * initial_std(config.dim)
        self.query_tokens = nn.Parameter(tokens)
        self.tokenizer = BrainTokenizer(config.n_clusters, config.dim)
        self.cross_transformer = CrossTransformer(
            config.dim, config.n_heads, config.n_rounds, config.mlp_ratio, config.output_dim
        )
        self._voxels = nn.ModuleDict()

    @property
    def subjects(self) -> list[str]:
        """Names of the known subjects, in the order in which they were added."""
        return list(self._voxels)

    def voxels(self, subject: str) -> SubjectVoxels:
        """One subject's voxel embeddings and clusters.

        Raises:
            ValueError: If the subject is unknown.
        """
        if subject not in self._voxels:
            raise ValueError(f"unknown subject {subject!r}: the model knows {self.subjects}")
        module = self._voxels[subject]
        assert isinstance(module, SubjectVoxels)
        return module

    def add_subject(
        self,
        name: str,
        labels: ArrayLike,
        embedding: Tensor | None = None,
        generator: Generator | None = None,
    ) -> None:
        """Make a subject known.

        Args:
            name: The subject's name, e.g. "subj01"; a Python identifier.
            labels: Cluster of every voxel, integers [N] in [0, n_clusters).
            embedding: Starting voxel embeddings [N, D], e.g. of the nearest known voxels; None
                draws them with standard deviation ``0.1 / (2 sqrt(D))``.
            generator: CPU generator of that draw; None is torch's global one.

        Raises:
            ValueError: If the name is taken or no identifier, a label is outside the range, or the
                embedding has another shape.
        """
        if not name.isidentifier() or name in self._voxels or hasattr(self._voxels, name):
            raise ValueError(f"subject name {name!r}: expected a new identifier like 'subj01'")
        clusters = checked_labels(name, labels, self.config.n_clusters)
        expected = [len(clusters), self.config.dim]
        if embedding is not None and list(embedding.shape) != expected:
            raise ValueError(
                f"embedding of {name!r}: expected {expected}, got {list(embedding.shape)}"
            )
        with torch.device("cpu"):
            voxels = SubjectVoxels(
                clusters, self.config.n_clusters, self.config.dim, embedding, generator
            )
        self._voxels[name] = voxels.to(self.query_tokens.device)

    def remove_subject(self, name: str) -> None:
        """Forget a subject.

        Raises:
            ValueError: If the subject is unknown.
        """
        self.voxels(name)
        del self._voxels[name]

    def gradient_checkpointing_enable(self, enabled: bool = True) -> None:
        """Keep only what enters each block of the cross-transformer for the backward pass.

        The rest is computed again there: one more forward pass of the cross-transformer a step,
        for memory that no longer holds every block's inner activations. Outputs and gradients stay
        the same. The choice is not part of what `save_pretrained` writes.

        Args:
            enabled: False goes back to keeping everything.
        """
        self.cross_transformer.gradient_checkpointing = enabled

    def forward(
        self,
        activations: Tensor | Sequence[Tensor],
        subject: str | Sequence[str],
        multiplicity: Tensor | Sequence[Tensor] | None = None,
        queries: Tensor | None = None,
        return_attention: bool = False,
    ) -> BITOutput:
        """Predict image features from the activations of one subject, or of one subject a sample.

        A batch that mixes subjects runs the tokenizer once a subject, on that subject's samples
        together, and the cross-transformer once.

        Args:
            activations: Voxel responses, [B, N], in the subject's own voxel order; of several
                subjects B tensors [N_s], one a sample.
            subject: Name of a known subject; of several subjects B names, one a sample.
            multiplicity: How often each voxel was drawn, >= 0, in the form of the activations;
                None means once each.
            queries: Numbers of the query tokens to run, int64 [Q], or [B, Q] for other tokens in
                every sample; None means all T.
            return_attention: Whether to return the attention of every cross block.

        Returns:
            Features [B, Q, output_dim] and the attention maps or None, in the samples' order.

        Raises:
            ValueError: If a subject is unknown, shapes or numbers of samples disagree, a query
                token does not exist, an activation is not finite or a multiplicity is negative or
                not finite. In a compiled graph wrong values are a RuntimeError of the same line.
        """
        if isinstance(subject, str):
            tokens = self._brain_tokens(activations, subject, multiplicity)
        else:
            tokens = self._mixed_brain_tokens(activations, subject, multiplicity)
        start = self._query_tokens(queries, len(tokens))
        return BITOutput(*self.cross_transformer(start, tokens, return_attention))

    def _brain_tokens(self, activations: object, subject: str, multiplicity: object) -> Tensor:
        voxels = self.voxels(subject)
        x = checked_activations(activations, subject, voxels.n_voxels)
        drawn = None if multiplicity is None else checked_multiplicity(multiplicity, subject, x)
        tokens: Tensor = self.tokenizer(x, voxels, drawn)
        return tokens

    def _mixed_brain_tokens(
        self,
        activations: Sequence[Tensor] | Tensor,
        subjects: Sequence[str],
        multiplicity: Sequence[Tensor] | Tensor | None,
    ) -> Tensor:
        lengths = [len(one) for one in (subjects, activations, multiplicity) if one is not None]
        if 0 in lengths or len(set(lengths)) > 1:
            raise ValueError(
                "batch of several subjects: expected one name, activations and multiplicity a "
                f"sample, got {lengths}"
            )
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(subjects):
            rows.setdefault(name, []).append(row)
        groups = []
        for name, own in rows.items():
            n_voxels = self.voxels(name).n_voxels
            x = stacked(activations, own, n_voxels, f"activations of {name!r}")
            drawn = None
            if multiplicity is not None:
                drawn = stacked(multiplicity, own, n_voxels, f"multiplicity of {name!r}")
            groups.append(self._brain_tokens(x, name, drawn))
        order = torch.tensor([row for own in rows.values() for row in own])
        return torch.cat(groups)[order.argsort()]

    def _query_tokens(self, queries: Tensor | None, batch: int) -> Tensor:
        if queries is None:
            return self.query_tokens.expand(batch, -1, -1)
        check_queries(queries, batch, self.config.n_query_tokens)
        chosen = self.query_tokens[queries]
        return chosen.expand(batch, -1, -1) if queries.ndim == 1 else chosen

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` (sizes and subjects) and `model.safetensors` into a folder."""
        checkpoint.write_folder(
            Path(folder), {**asdict(self.config), "subjects": self.subjects}, self.state_dict()
        )

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Load a folder that `save_pretrained` wrote, or such a repository of the Hugging Face hub.

        Args:
            source: A folder, or "owner/name" on the hub.

        Returns:
            The model with all its subjects, on the CPU.

        Raises:
            FileNotFoundError: If there is no such folder or a file in it is missing.
            ValueError: If the files do not describe one model.
        """
        config, state = checkpoint.read_folder(source)
        try:
            subjects = config.pop("subjects")
            model = cls(BITConfig(**config))
            for name in subjects:
                model.add_subject(name, state[f"_voxels.{name}.labels"])
            checkpoint.check_shapes(model.state_dict(), state)
            model.load_state_dict(state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = f"no entry {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{source}: not a Brain Interaction Transformer: {reason}") from error
        return model
