"""Names that reach paths, tables and pages are checked at the door."""

from __future__ import annotations

import re
from numbers import Integral

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TITLE = re.compile(r"[^\W_][\w .,:;+()/&'-]{0,99}")


def check_label(value: object, name: str) -> str:
    """A label that is safe as a file name, a CSV cell and on a page: subject, image id, metric.

    Args:
        value: Up to 100 letters, digits, dots, dashes and underscores of ASCII, the first one a
            letter or a digit.
        name: What the caller calls it; errors start with it.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(value, str) or not _LABEL.fullmatch(value) or ".." in value:
        raise ValueError(
            f"{name}: expected up to 100 letters, digits, '.', '-' and '_', got {shown(value)}"
        )
    return value


def check_title(value: object, name: str) -> str:
    """A name for people, such as a method's: never used in a path, escaped on pages.

    Args:
        value: Up to 100 letters, digits, spaces and ``.,:;+()/&'-_``; the first one a letter or a
            digit.
        name: What the caller calls it; errors start with it.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(value, str) or not _TITLE.fullmatch(value):
        raise ValueError(
            f"{name}: expected up to 100 letters, digits, spaces and .,:;+()/&'-_ "
            f"that start with a letter or a digit, got {shown(value)}"
        )
    return value


def image_id(value: object, name: str = "image id") -> str:
    """One image's id as text: whole numbers lose leading zeros, so 00123 and 123 are one image.

    Args:
        value: A whole number of 0 or more, or a label as in `check_label`.
        name: What the caller calls it; errors start with it.

    Raises:
        ValueError: If it is neither.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    text = check_label(str(value) if whole else value, name)
    return text.lstrip("0") or "0" if text.isdecimal() else text


def shown(value: object) -> str:
    """A value for an error line: no control character or direction mark reaches a terminal."""
    try:
        text = ascii(value)
    except ValueError:  # an integer with more digits than Python prints
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
