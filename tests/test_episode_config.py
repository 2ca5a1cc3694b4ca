from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig
from egt_tf.errors import ConfigError


def test_sizes_count_all_classes():
    episode = EpisodeConfig(ways=5, shots=3, queries=16)
    assert (episode.support_size, episode.query_size) == (15, 80)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, 5, 16), "`ways` must be an integer >= 2. Received: ways=1"),
        ((5, 0, 16), "`shots` must be an integer >= 1. Received: shots=0"),
        ((5, 5, -1), "`queries` must be an integer >= 1. Received: queries=-1"),
        ((5, 5.0, 16), "Received: shots=5.0"),
        ((5, True, 16), "Received: shots=True"),
    ],
)
def test_refuses_impossible_structures(values, message):
    with pytest.raises(ConfigError) as caught:
        EpisodeConfig(*values)
    assert message in str(caught.value)


def test_takes_numpy_integers():
    assert EpisodeConfig(np.int64(5), np.int32(1), np.uint8(2)).query_size == 10
