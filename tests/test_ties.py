from __future__ import annotations

import numpy as np
import pytest

from egt_tf.ties import tie_text, tied_classes


@pytest.mark.parametrize(
    ("probabilities", "tied"),
    [
        ([0.2, 0.2, 0.2, 0.2, 0.2], (0, 1, 2, 3, 4)),
        ([0.1, 0.45, 0.45], (1, 2)),
        ([0.1, 0.4501, 0.4499], (1,)),
        ([0.0, 1.0], (1,)),
        (np.float32([1 / 3, 1 / 3 + 1e-8, 1 / 3]), (0, 1, 2)),
    ],
)
def test_equal_probabilities_are_ties(probabilities, tied):
    assert tied_classes(probabilities) == tied


def test_the_tolerance_is_one_of_scores():
    """However small the probabilities are, as of a thousand classes."""
    scores = np.zeros(1000)
    for lead, count in ((1e-6, 1000), (1e-4, 1)):
        scores[7] = lead
        probabilities = np.exp(scores) / np.exp(scores).sum()
        assert len(tied_classes(probabilities)) == count


def test_all_classes_are_not_listed():
    assert tie_text(["a", "b", "c", "d", "e"], 5) == "a tie of all 5 classes"
    assert tie_text(["a", "b"], 2) == "a tie of both classes"
    assert tie_text(["a", "b", "c"], 5) == "a tie of a, b and c"
