"""Errors a user can act on. Each message states the rule that was broken and what was received."""

from __future__ import annotations


class EgtError(ValueError):
    """Base of every error that the command line shows as one line with exit code 2."""


class DataError(EgtError):
    """An image, a class, a split or a data source is not as it must be."""


class ConfigError(EgtError):
    """A configuration has an unknown key or a value of the wrong type or range."""


class RunError(EgtError):
    """A run folder or a weight file is missing, damaged or made by another architecture."""


class ExplainError(EgtError):
    """A model cannot be explained as asked: an unknown layer, composite, target or shape."""
