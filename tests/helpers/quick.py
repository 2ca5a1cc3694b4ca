"""Which of a test's parameters are tried by `make test`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest


def all_but_slow(values: Iterable, slow: Collection) -> list:
    """`values` as parameters of a test; those in `slow` are left to `make test-slow`."""
    return [_slow(value) if value in slow else value for value in values]


def quick_ones(values: Iterable, quick: Collection) -> list:
    """`values` as parameters of a test; those not in `quick` are left to `make test-slow`."""
    return [value if value in quick else _slow(value) for value in values]


def _slow(value):
    # A tuple has a value for each of several arguments, as where pytest is given one.
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.slow)
