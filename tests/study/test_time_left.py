from __future__ import annotations

import pytest

from egt_tf.study.results import CellName
from egt_tf.study.time_left import expected_seconds, seconds_left


def cell(head="cosine", arm="plain", seed=1, setting="default", shots=5):
    return CellName(setting, head, shots, arm, seed)


TOOK = [
    (cell("cosine", "plain"), 10.0),
    (cell("cosine", "plain", 2), 20.0),
    (cell("cosine", "guided"), 60.0),
    (cell("relation", "plain"), 110.0),
    (cell("cosine", "plain", shots=1), 8.0),
]


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        (cell("cosine", "plain", 3), 15.0),
        (cell("cosine", "guided", 2), 60.0),
        # Of its head and arm there are cells of other shots.
        (cell("cosine", "guided", shots=1), 60.0),
        # Of its head there are other arms: 10, 20, 60 and 8.
        (cell("cosine", "shuffled"), 24.5),
        (cell("graph", "plain"), 41.6),
    ],
)
def test_a_cell_takes_as_long_as_its_nearest_kin(name, seconds):
    assert expected_seconds(TOOK, name) == pytest.approx(seconds)


def test_nothing_is_known_before_a_cell_is_done():
    assert seconds_left([], [(cell(), 3.0)], [cell(seed=2)], jobs=1) is None


def test_the_rest_is_shared_among_the_jobs():
    waiting = [cell("cosine", "plain", seed) for seed in (3, 4, 5)]
    running = [(cell("cosine", "guided", 2), 45.0)]
    assert seconds_left(TOOK, running, waiting, jobs=1) == pytest.approx(15 + 3 * 15)
    assert seconds_left(TOOK, running, waiting, jobs=2) == pytest.approx((15 + 3 * 15) / 2)


def test_it_is_no_less_than_the_longest_cell_needs():
    assert seconds_left(TOOK, [], [cell("relation", "plain", 2)], jobs=8) == 110


def test_a_cell_that_is_late_counts_as_done():
    assert seconds_left(TOOK, [(cell("cosine", "plain", 3), 99.0)], [], jobs=1) == 0
    assert seconds_left(TOOK, [], [], jobs=1) == 0
