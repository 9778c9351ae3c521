"""Results of the analyses as JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def jsonable(result: Any) -> Any:
    """Turn a result into what `json.dumps` takes; NaN becomes null.

    Args:
        result: A result of this package's analyses: dataclass, mapping, sequence, array, number.

    Raises:
        TypeError: if it holds something else.
    """
    if is_dataclass(result) and not isinstance(result, type):
        return {field.name: jsonable(getattr(result, field.name)) for field in fields(result)}
    if isinstance(result, Mapping):
        return {str(name): jsonable(value) for name, value in result.items()}
    if isinstance(result, np.ndarray | np.generic):
        return jsonable(result.tolist())
    if isinstance(result, list | tuple):
        return [jsonable(value) for value in result]
    if isinstance(result, float):
        return result if math.isfinite(result) else None
    if result is None or isinstance(result, bool | int | str):
        return result
    raise TypeError(f"cannot write {type(result).__name__} as JSON")
