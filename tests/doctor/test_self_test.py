from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from egt_tf.doctor import self_test
from egt_tf.doctor.findings import State
from egt_tf.doctor.self_test import StepResult, examine_steps, guided_steps, step_finding

SOUND = StepResult(0.5, np.array([0.5, -0.5]), np.array([0.0, 2.0]), 12.3)


@pytest.mark.slow
def test_guided_steps_on_the_processor(monkeypatch):
    monkeypatch.setattr(self_test, "SECONDS_OF_STEPS", 0.2)
    result = guided_steps("/device:CPU:0")
    assert 0 < result.loss < 3
    assert result.steps_per_second > 0
    # Three ways of two queries each, against three prototypes: maps of 2x2 and twice 8 channels.
    assert result.relevance.shape == result.weights.shape == (1, 6, 3, 2, 2, 16)
    assert result.relevance.any()
    assert result.weights.min() >= 0
    assert result.weights.max() <= 2
    assert step_finding("CPU:0", result).state is State.OK


def test_a_sound_result():
    found = step_finding("GPU:0", SOUND)
    assert (found.state, found.subject) == (State.OK, "GPU:0")
    assert "loss 0.5000, 12 steps/s" in found.found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": float("nan")}, "the loss is nan"),
        ({"relevance": np.array([np.inf])}, "relevance is not finite"),
        ({"relevance": np.zeros(2)}, "all relevance is 0"),
        ({"weights": np.array([2.5])}, "weights are not in [0, 2]"),
        ({"weights": np.array([np.nan])}, "weights are not in [0, 2]"),
    ],
)
def test_a_result_that_no_sound_device_gives(change, words):
    found = step_finding("GPU:0", dataclasses.replace(SOUND, **change))
    assert found.state is State.WRONG
    assert words in found.found
    assert found.advice


def test_a_device_that_fails_is_a_finding(monkeypatch):
    def fail(device):
        raise RuntimeError("no kernel image is available\nand more")

    monkeypatch.setattr(self_test, "guided_steps", fail)
    (found,) = examine_steps()
    assert (found.state, found.subject) == (State.WRONG, "CPU:0")
    assert found.found == "a guided step failed: no kernel image is available"
