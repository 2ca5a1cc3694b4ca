"""Types of options that several commands have."""

from __future__ import annotations

import fractions
from typing import Any

import click

from egt_tf.files import text_of_name


class ClassName(click.ParamType):
    """The name of a class; that of its folder, typed in a shell of any locale, is one."""

    name = "class"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return text_of_name(value)


class Share(click.ParamType):
    """A number, also as a fraction: "0.5", "4/255"."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(fractions.Fraction(value))
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"{value!r} is neither a number nor a fraction such as 4/255", param, ctx)


class Numbers(click.ParamType):
    """Numbers with commas between them; "0,0.1,...,0.5" goes on as it began."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        if not isinstance(value, str):
            return list(value)
        first, dots, last = value.partition(",...,")
        try:
            numbers = [fractions.Fraction(part) for part in first.split(",")]
            return [float(number) for number in (_continued(numbers, fractions.Fraction(last)) if dots else numbers)]
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"{value!r} must be numbers such as 0,0.1,0.2 or 0,0.1,...,0.5", param, ctx)


# More would be a slip of the pen.
_MOST_NUMBERS = 1000


def _continued(begun: list[fractions.Fraction], last: fractions.Fraction) -> list[fractions.Fraction]:
    """Numbers that go on in equal steps until `last`."""
    step = begun[-1] - begun[-2] if len(begun) > 1 else fractions.Fraction(0)
    count = (last - begun[-1]) / step if step else fractions.Fraction(-1)
    if count.denominator != 1 or not 1 <= count <= _MOST_NUMBERS:
        raise ValueError("the steps must end at the last number")
    return begun + [begun[-1] + step * number for number in range(1, int(count) + 1)]
