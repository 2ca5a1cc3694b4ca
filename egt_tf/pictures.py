"""Results that a notebook shows as pictures, which rooms above theirs draw."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

# Full name of a class -> module and name of the function that draws its results.
_DRAWERS: dict[str, tuple[str, str]] = {}


def drawn_by(drawers: Mapping[str, tuple[str, str]]) -> None:
    """Says what draws the results of classes of `Pictured`; it is imported when a picture is asked for.

    Args:
        drawers: full name of a class -> module and name of a function from a result to the content of a PNG file.

    Example:
        >>> drawn_by({"my.module.Result": ("my.figures", "result_png")})
    """
    _DRAWERS.update(drawers)


class Pictured:
    """A result that a notebook shows as a picture.

    Imports go downwards only, and what draws a result is above what computes it. So the package, which is above all,
    says by `drawn_by` which function draws which class. Without such a function there is no picture.

    Example:
        >>> class Result(Pictured):
        ...     pass
        >>> Result()._repr_png_() is None
        True
    """

    def _repr_png_(self) -> bytes | None:
        drawer = _DRAWERS.get(f"{type(self).__module__}.{type(self).__qualname__}")
        if drawer is None:
            return None
        module, function = drawer
        return getattr(importlib.import_module(module), function)(self)
