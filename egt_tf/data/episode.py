"""The structure of an episode: how many classes, and how many images of each."""

from __future__ import annotations

from dataclasses import dataclass, fields

from egt_tf.errors import check_integer

_SMALLEST = {"ways": 2, "shots": 1, "queries": 1}


@dataclass(frozen=True)
class EpisodeSpec:
    """An N-way K-shot episode.

    Args:
        ways: classes of the episode, >= 2.
        shots: support images of each class, >= 1.
        queries: query images of each class (not of the whole episode), >= 1.

    Raises:
        ConfigError: a value is no integer or too small.
    """

    ways: int
    shots: int
    queries: int

    def __post_init__(self):
        for field in fields(self):
            check_integer(field.name, getattr(self, field.name), _SMALLEST[field.name])

    @property
    def support_size(self) -> int:
        """Support images of the episode, `ways * shots`."""
        return self.ways * self.shots

    @property
    def query_size(self) -> int:
        """Query images of the episode, `ways * queries`."""
        return self.ways * self.queries
