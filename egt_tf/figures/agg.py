"""What figures are drawn with: matplotlib's Agg renderer, on machines with any display or none.

Imported where something is drawn, by functions: nobody else waits for matplotlib or fails for want of a part of it.
"""

from __future__ import annotations

import contextlib
import os
import sys

_BACKEND = "MPLBACKEND"


def import_matplotlib() -> None:
    """Imports matplotlib, whatever display the environment names.

    matplotlib cannot be imported where MPLBACKEND names a display that is not installed, as the shells of Jupyter and
    Colab hand it on to the programs that they start. The setting is left as it would be otherwise: notebooks that have
    their display show the user's own figures as ever.

    Example:
        >>> import_matplotlib()
        >>> "matplotlib" in sys.modules
        True
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop(_BACKEND, None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ[_BACKEND] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


import_matplotlib()

from matplotlib import rc_context  # noqa: E402 (nothing of matplotlib may be there before the line above)
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.font_manager import FontProperties, findfont, get_font  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402
from matplotlib.ticker import MaxNLocator, StrMethodFormatter  # noqa: E402

__all__ = [
    "Figure",
    "FigureCanvasAgg",
    "FontProperties",
    "Line2D",
    "MaxNLocator",
    "Rectangle",
    "StrMethodFormatter",
    "drawable",
    "font",
    "import_matplotlib",
    "rc_context",
]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def font(size: float, bold: bool = False) -> FontProperties:
    """The font of all figures, which comes with matplotlib.

    Args:
        size: in points.
        bold: whether it is bold.

    Example:
        >>> font(9).get_size()
        9.0
    """
    return FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")


def drawable(words: str, bold: bool = False) -> str:
    """The words with U+FFFD in place of characters that the font lacks, such as emoji, and of undecoded bytes.

    matplotlib draws boxes for the former, with a warning for each, and fails at the latter.

    Args:
        words: one line.
        bold: whether they are drawn in bold type.

    Example:
        >>> drawable("caf\\u00e9 \\u732b"), drawable("a\\udce9")
        ('café \ufffd', 'a\ufffd')
    """
    if words.isascii():
        return words
    glyphs = get_font(findfont(font(10, bold))).get_charmap()
    return "".join(character if ord(character) in glyphs else _REPLACEMENT for character in words)
