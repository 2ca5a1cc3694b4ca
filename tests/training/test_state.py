from __future__ import annotations

import json
import os

import numpy as np
import pytest

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import RunError
from egt_tf.keras_api import keras
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.state import TrainingState, load_state, state_arrays
from egt_tf.weights import load_arrays, save_arrays, weight_arrays
from tests.helpers.quick import all_but_slow

METRICS = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-9}]


def build(width: int = 2, seed: int = 0, optimizer: keras.optimizers.Optimizer | None = None) -> GuidedModel:
    model = EpisodicModel.build_from(
        {"name": "conv4", "width": width}, {"name": "relation", "batch_statistics": False}, 16, seed=seed
    )
    guided = GuidedModel(model)
    guided.compile(optimizer=optimizer or keras.optimizers.Adam(0.01))
    return guided


def step(model: GuidedModel, seed: int) -> None:
    """An update by made-up gradients."""
    rng, weights = np.random.default_rng(seed), model.classifier.trainable_variables
    gradients = [rng.normal(size=w.shape).astype(np.float32) for w in weights]
    model.optimizer.apply_gradients(zip(gradients, weights))


def save(path, model: GuidedModel, state: TrainingState) -> None:
    save_arrays(path, state_arrays(model, state))


def saved(path, steps: int = 3) -> GuidedModel:
    model = build()
    for number in range(steps):
        step(model, number)
    save(path, model, TrainingState(METRICS, 0.625))
    return model


def test_round_trip(tmp_path):
    saved(tmp_path / "last.npz")
    state = load_state(tmp_path / "last.npz", build(seed=1))
    assert state == TrainingState(METRICS, 0.625)
    assert state.epochs == 2
    assert os.listdir(tmp_path) == ["last.npz"]


def test_a_resumed_optimizer_goes_on_with_the_same_numbers(tmp_path):
    model = saved(tmp_path / "last.npz")
    other = build(seed=1)
    load_state(tmp_path / "last.npz", other)
    assert int(other.optimizer.iterations) == 3
    for number in (10, 11):
        step(model, number)
        step(other, number)
    for a, b in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
    # Without the moments the numbers would be others.
    load_state(tmp_path / "last.npz", other)
    other.compile(optimizer=keras.optimizers.Adam(0.01))
    step(other, 10)
    step(other, 11)
    assert any(np.any(a != b) for a, b in zip(model.get_weights(), other.get_weights()))


def test_the_state_before_the_first_step(tmp_path):
    save(tmp_path / "last.npz", build(), TrainingState())
    state = load_state(tmp_path / "last.npz", build(seed=1))
    assert (state.epochs, state.best_accuracy) == (0, -1.0)


def expect_refusal(path, message: str, width: int = 2, optimizer=None) -> None:
    model = build(width, seed=1, optimizer=optimizer)
    before = model.get_weights()
    with pytest.raises(RunError, match=message):
        load_state(path, model)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_other_contents_are_refused_and_change_nothing(tmp_path):
    path = tmp_path / "last.npz"
    expect_refusal(path, "last.npz must exist")
    saved(path)
    expect_refusal(path, "must hold the state of a training with this model", width=3)
    expect_refusal(path, "must hold the state of a training with this model", optimizer=keras.optimizers.SGD(0.1))
    save_arrays(path, weight_arrays(build().classifier))
    expect_refusal(path, "must hold the state of a training with this model")
    path.write_bytes(b"damaged")
    expect_refusal(path, "damaged or no weight file")


@pytest.mark.parametrize(
    "progress", all_but_slow(["{", "[]", json.dumps({"metrics": [], "best": 1}), "3"], {"[]", "3"})
)
def test_a_progress_that_cannot_be_read_is_refused(tmp_path, progress):
    path = tmp_path / "last.npz"
    saved(path)
    save_arrays(path, {**load_arrays(path), "progress": np.array(progress)})
    expect_refusal(path, "must say how far its training was")


def test_the_state_of_another_head_is_refused(tmp_path):
    path = tmp_path / "last.npz"
    saved(path)
    arrays = load_arrays(path)
    arrays["model/score/extra/kernel"] = np.ones(2, np.float32)
    save_arrays(path, arrays)
    expect_refusal(path, "unknown score/extra/kernel")
