from __future__ import annotations

import subprocess
import sys

import pytest

import brainit_eval

HEAVY = ("torch", "timm", "jinja2", "matplotlib", "scipy", "numpy", "PIL")


def test_import_is_light() -> None:
    code = (
        "import sys, brainit_eval; "
        f"print([name for name in {HEAVY} if name in sys.modules], brainit_eval.__version__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["[]", brainit_eval.__version__]


def test_every_public_name_is_there() -> None:
    for name in brainit_eval.__all__:
        assert getattr(brainit_eval, name) is not None
    assert set(brainit_eval.__all__) == set(dir(brainit_eval))
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = brainit_eval.nothing_of_ours
