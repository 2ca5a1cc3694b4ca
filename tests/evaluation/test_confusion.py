from __future__ import annotations

import json

import numpy as np
import pytest

from egt_tf.errors import DataError
from egt_tf.evaluation.confusion import MOST_PAIRS, Confusion, count_confusion

NAMES = ("ant", "bee", "cow", "dog")


def test_answers_are_counted_by_class_and_by_what_they_met():
    # Two queries a class; class 3 never occurs, and 0 and 2 never meet.
    found = count_confusion(NAMES, np.array([[1, 0], [2, 1]]), np.array([[0, 1, 0, 1], [0, 0, 0, 1]]))
    assert found.class_names == ("ant", "bee", "cow")
    np.testing.assert_array_equal(found.taken, [[1, 1, 0], [1, 2, 1], [0, 0, 2]])
    np.testing.assert_array_equal(found.asked, [[2, 2, 0], [2, 4, 2], [0, 2, 2]])


def test_counts_are_those_of_a_slow_count():
    rng = np.random.default_rng(0)
    classes = np.stack([rng.choice(6, 3, replace=False) for _ in range(20)])
    predicted = rng.integers(3, size=(20, 12))
    found = count_confusion("abcdef", classes, predicted)
    taken, asked = np.zeros((6, 6), int), np.zeros((6, 6), int)
    for row, answers in zip(classes, predicted, strict=True):
        for query, answer in enumerate(answers):
            truth = row[query // 4]
            taken[truth, row[answer]] += 1
            for other in row:
                asked[truth, other] += 1
    np.testing.assert_array_equal(found.taken, taken)
    np.testing.assert_array_equal(found.asked, asked)


def test_json_names_the_most_frequent_confusions_first():
    found = Confusion(("ant", "b/ée"), np.array([[3, 1], [2, 2]]), np.full((2, 2), 4)).to_json()
    assert json.loads(json.dumps(found)) == {
        "classes": [{"name": "ant", "queries": 4, "right": 3}, {"name": "b/ée", "queries": 4, "right": 2}],
        "pairs": [
            {"class": 1, "taken_for": 0, "queries": 2, "of": 4},
            {"class": 0, "taken_for": 1, "queries": 1, "of": 4},
        ],
    }


def test_of_many_classes_not_every_pair_is_written():
    counts = np.arange(400).reshape(20, 20)
    pairs = Confusion(tuple("abcdefghijklmnopqrst"), counts, np.full((20, 20), 400)).to_json()["pairs"]
    assert len(pairs) == MOST_PAIRS
    assert (pairs[0]["class"], pairs[0]["taken_for"]) == (19, 18)
    assert min(each["queries"] for each in pairs) > 150


@pytest.mark.parametrize("predicted", [np.zeros((1, 4), int), np.zeros((2, 5), int)])
def test_shapes_that_do_not_fit(predicted):
    with pytest.raises(DataError, match="as many queries of each class"):
        count_confusion(NAMES, np.array([[0, 1], [1, 2]]), predicted)
