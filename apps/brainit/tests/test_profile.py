"""Profiles parse strictly, round trip, and say what is wrong in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from brainit.profile import ProfileError, dump_profile, load_profile


@pytest.mark.parametrize("name", ["tiny", "nsd"])
def test_shipped_profiles_round_trip(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    (tmp_path / "copy.toml").write_text(dump_profile(profile))
    assert load_profile(str(tmp_path / "copy.toml")) == profile


def test_nsd_profile_has_the_published_numbers() -> None:
    profile = load_profile("nsd")
    assert profile.simulation is None
    assert (profile.clusters.count, profile.encoder.dim, profile.encoder.rank) == (128, 256, 7)
    assert profile.encoder.taps == (1, 6, 12, 18, 24)
    assert profile.low_level.queries == (512, 512, 128, 64, 16)
    assert (profile.semantic.dim, profile.semantic.voxels_drawn) == (512, 15_000)
    assert (profile.low_level.training.batch_size, profile.semantic.training.batch_size) == (
        64,
        128,
    )
    assert (profile.image.steps, profile.image.fused_start_step) == (38, 14)
    assert profile.evaluation.subjects == (1, 2, 5, 7)


def test_overrides_take_toml_values_and_bare_words() -> None:
    profile = load_profile(
        "tiny", ["semantic.dim=64", "image.precision=no", "data.subjects=[1, 2]", "seed=3"]
    )
    assert (profile.semantic.dim, profile.image.precision) == (64, "no")
    assert (profile.data.subjects, profile.seed) == ((1, 2), 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("semantic.dimm=1", r"tiny.toml: unknown key 'semantic.dimm'; did you mean 'dim'\?"),
        ("semantic.dim=wide", r"semantic.dim must be int, got 'wide'"),
        ("semantic.training.epochs=1.5", "semantic.training.epochs must be int, got 1.5"),
        ("data.subjects=1", "data.subjects must be a list, got 1"),
        (
            "encoder.training.precision=fp32",
            "precision must be one of 'auto', 'no', 'bf16', got 'fp32'",
        ),
        (
            "semantic.training.precision=fp16",
            "precision must be one of 'auto', 'no', 'bf16', got 'fp16'",
        ),
        ("semantic.training.schedule=step", "schedule must be one of 'plateau', 'cosine', got"),
        (
            "semantic.training.optimiser=sgd",
            "optimiser must be one of 'adamw', 'adam_amsgrad', got",
        ),
        ("coarse.preset=best", "coarse.preset must be one of 'reference', 'quality', 'fast', "),
        ("seed.x=1", "seed is not a table"),
        ("seed", "expected KEY=VALUE"),
    ],
)
def test_bad_override_names_file_key_and_expectation(override: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        load_profile("tiny", [override])


def test_missing_profile_lists_the_shipped_ones() -> None:
    with pytest.raises(ProfileError, match=r"no such profile \(shipped: nsd, tiny"):
        load_profile("huge")


def test_missing_key_and_bad_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "x"\n')
    with pytest.raises(ProfileError, match=r"mine\.toml: missing key 'seed'"):
        load_profile(str(path))
    path.write_text("name = ")
    with pytest.raises(ProfileError, match="not valid TOML"):
        load_profile(str(path))
