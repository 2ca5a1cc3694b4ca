from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig
from egt_tf.data.sources import open_source
from egt_tf.errors import RunError
from egt_tf.serving.evaluation import evaluate_exported

EPISODE = EpisodeConfig(ways=2, shots=1, queries=2)


def model(probabilities):
    """Answers every episode alike: queries of class 0, then of class 1."""
    asked = []

    def ask(signature, inputs):
        asked.append({name: np.shape(value) for name, value in inputs.items()})
        return {"probabilities": np.array(probabilities)}

    spec = SimpleNamespace(shape=(None, 16, 16, 3))
    return SimpleNamespace(inputs=lambda signature: {"query_images": spec}, ask=ask, asked=asked)


def measure(exported):
    return evaluate_exported(exported, open_source("synthetic:shapes").split("novel"), EPISODE, 3, seed=0)


def test_accuracy_calibration_and_ties():
    exported = model([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.4, 0.6]])
    found = measure(exported)
    # Of a tie the first class counts, which is wrong here.
    assert found.episodes.tolist() == [0.5, 0.5, 0.5]
    assert found.tied == 0.25
    assert found.calibration.negative_log_likelihood == pytest.approx(-np.log([0.9, 0.2, 0.5, 0.6]).mean())
    assert exported.asked == 3 * [
        {"support_images": (2, 16, 16, 3), "support_labels": (2,), "query_images": (4, 16, 16, 3)}
    ]


def test_probabilities_that_are_no_numbers_are_no_accuracy():
    with pytest.raises(RunError, match="must be finite"):
        measure(model([[np.nan, 0.1]] * 4))
