from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.training.optimizers import OPTIMIZERS
from egt_tf.training.schedules import SCHEDULES

EPOCHS, STEPS, RATE = 10, 5, 0.1


def make(name: str, **arguments):
    return SCHEDULES.get(
        {"name": name, **arguments}, learning_rate=RATE, total_steps=EPOCHS * STEPS, steps_per_epoch=STEPS
    )


# Written down again, in plain Python.
FORMULAS = {
    "constant": ({}, lambda step: RATE),
    "drops": ({"drops": [[6, 0.006], [7, 0.0012]]}, lambda s: RATE if s < 30 else 0.006 if s < 35 else 0.0012),
    "exponential": ({"factor": 0.5}, lambda step: RATE * 0.5 ** (step // 5)),
    "linear": ({"final_rate": 0.02}, lambda step: RATE - 0.08 * step / 50),
    "cosine": ({"final_rate": 0.01}, lambda step: 0.01 + 0.09 * (1 + math.cos(math.pi * step / 50)) / 2),
    "warmup_cosine": (
        {"warmup_epochs": 2},
        lambda step: RATE * (step + 1) / 10 if step < 10 else RATE * (1 + math.cos(math.pi * (step - 10) / 40)) / 2,
    ),
}


def test_every_schedule_has_a_formula():
    assert set(FORMULAS) == set(SCHEDULES.names())


@pytest.mark.parametrize("name", FORMULAS)
def test_rates(name):
    arguments, formula = FORMULAS[name]
    schedule = make(name, **arguments)
    in_graph = tf.function(schedule)
    for step in (0, 1, 4, 5, 9, 10, 29, 30, 35, 49, 50):
        for rate in (schedule(step), in_graph(tf.constant(step, tf.int64))):
            assert rate.dtype == tf.float32
            assert float(rate) == pytest.approx(formula(step), rel=1e-6, abs=1e-9), step
    # Nothing changes behind the end.
    assert float(schedule(1000)) == float(schedule(50))


@pytest.mark.parametrize("name", FORMULAS)
def test_a_schedule_serialises(name):
    schedule = make(name, **FORMULAS[name][0])
    config = schedule.get_config()
    assert set(config) == set(inspect.signature(type(schedule).__init__).parameters) - {"self"}
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(copy) is type(schedule)
    assert copy.get_config() == config


def test_numbers_that_yaml_reads_as_strings():
    assert float(make("cosine", final_rate="1e-3")(50)) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cosine", {"final_rate": -1.0}, "`final_rate` must be >= 0"),
        ("linear", {"final_rate": "fast"}, "`final_rate` must be a number. Received: final_rate='fast'"),
        ("exponential", {"factor": 0}, "`factor` must be above 0"),
        ("exponential", {"factor": 1.5}, "`factor` must be above 0 and at most 1"),
        ("warmup_cosine", {"warmup_epochs": 10}, "below `training.epochs`. Received: warmup_epochs=10 of 10 epochs"),
        ("warmup_cosine", {"warmup_epochs": 0.5}, "`warmup_epochs` must be an integer"),
        ("drops", {"drops": [[7, 0.1], [6, 0.01]]}, "ascending epochs"),
        ("drops", {"drops": [[7, -0.1]]}, "rates > 0"),
        ("drops", {"drops": 7}, "list of \\[epochs, rate\\] pairs"),
        ("drops", {"drops": [[0.5, 0.1]]}, "must be an integer"),
        ("cosine", {"final": 0.1}, "did you mean 'final_rate'"),
    ],
)
def test_what_is_refused(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        make(name, **arguments)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_optimizer_follows_its_schedule(optimizer):
    optimizer = OPTIMIZERS.get(optimizer, learning_rate=make("linear"))
    variable = tf.Variable(1.0)
    for step in range(3):
        optimizer.apply_gradients([(tf.constant(1.0), variable)])
        np.testing.assert_allclose(optimizer.learning_rate.numpy(), RATE * (1 - step / 50), rtol=1e-6)
