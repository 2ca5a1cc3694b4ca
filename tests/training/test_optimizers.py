from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.training.optimizers import OPTIMIZERS, DecayingSGD


def published_sgd(weight, gradients, rate, momentum, nesterov, decay):
    """PyTorch's rule, written down step by step in float64."""
    weight, speed = np.float64(weight), None
    for gradient in gradients:
        step = gradient + decay * weight
        speed = step if speed is None else momentum * speed + step
        weight = weight - rate * (step + momentum * speed if nesterov else speed)
    return weight


@pytest.mark.parametrize(
    ("momentum", "nesterov", "decay"), [(0.9, True, 5e-2), (0.9, False, 5e-2), (0.0, False, 0.3), (0.9, True, 0.0)]
)
def test_decaying_sgd_is_pytorchs(momentum, nesterov, decay):
    gradients = np.random.default_rng(0).normal(size=6)
    optimizer = OPTIMIZERS.get(
        {"name": "sgd", "momentum": momentum, "nesterov": nesterov, "weight_decay": decay}, learning_rate=0.1
    )
    variable = tf.Variable(2.0)
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
    expected = published_sgd(2.0, gradients, 0.1, momentum, nesterov, decay)
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)


def test_the_optimizer_serialises():
    optimizer = DecayingSGD(0.2, 0.5, True, decay=0.1)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(copy, DecayingSGD)
    assert copy.get_config() == optimizer.get_config()


def test_adam_has_the_published_epsilon():
    assert OPTIMIZERS.get("adam", learning_rate=0.5).get_config()["epsilon"] == 1e-8


def test_unknown_arguments_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'momentum'"):
        OPTIMIZERS.get({"name": "sgd", "momentun": 0.5}, learning_rate=0.1)
