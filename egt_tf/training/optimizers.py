"""Optimizers as the published training protocols have them. `OPTIMIZERS.names()` lists them."""

from __future__ import annotations

from typing import Any, TypeAlias

import tensorflow as tf

from egt_tf.config import TrainingConfig
from egt_tf.keras_api import keras
from egt_tf.registry import Registry, serializable
from egt_tf.training.schedules import schedule_of

OPTIMIZERS = Registry("optimizer")

Rate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule


def configured_optimizer(training: TrainingConfig, epochs: int, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer that a configuration names, with its schedule and its clipping, for a training of so many epochs.

    Raises:
        ConfigError: the optimizer or the schedule is unknown, or has an argument that it does not take.

    Example:
        >>> training = TrainingConfig(learning_rate=0.1, clip_norm=1.0)
        >>> optimizer = configured_optimizer(training, epochs=2, steps_per_epoch=3)
        >>> optimizer.global_clipnorm, round(float(optimizer.learning_rate), 3)
        (1.0, 0.1)
    """
    optimizer = OPTIMIZERS.get(training.optimizer, learning_rate=schedule_of(training, epochs, steps_per_epoch))
    optimizer.global_clipnorm = training.clip_norm
    return optimizer


@OPTIMIZERS.register("adam")
def adam(
    learning_rate: Rate = 1e-3, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8
) -> keras.optimizers.Optimizer:
    """Adam (Kingma and Ba, 2015) with PyTorch's epsilon; Keras's default is 1e-7.

    Example:
        >>> OPTIMIZERS.get("adam", learning_rate=0.01).epsilon
        1e-08
    """
    return keras.optimizers.Adam(learning_rate, beta_1, beta_2, epsilon)


@OPTIMIZERS.register("sgd")
def sgd(
    learning_rate: Rate = 0.1, momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 0.0
) -> keras.optimizers.Optimizer:
    """Gradient descent with momentum; the decay is added to the gradient, on every weight.

    Args:
        learning_rate: step, or a schedule.
        momentum: share of the last step that is made again.
        nesterov: look ahead by the momentum.
        weight_decay: c in `gradient + c weight`, as PyTorch has it.

    Example:
        >>> OPTIMIZERS.get({"name": "sgd", "weight_decay": 5e-4}, learning_rate=0.1).decay
        0.0005
    """
    return DecayingSGD(learning_rate, momentum, nesterov, decay=weight_decay)


@serializable
class DecayingSGD(keras.optimizers.SGD):
    """SGD on `gradient + decay weight`.

    Keras's own `weight_decay` shrinks the weights beside the step, so that momentum does not see it.

    Args:
        decay: c in `gradient + c weight`, >= 0.

    Example:
        >>> weight = tf.Variable([1.0])
        >>> DecayingSGD(learning_rate=0.5, decay=0.5).apply_gradients([(tf.constant([0.5]), weight)])
        <tf.Variable ...>
        >>> weight.numpy().tolist()
        [0.5]
    """

    def __init__(
        self,
        learning_rate: Rate = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        decay: float = 0.0,
        name: str = "decaying_sgd",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, momentum, nesterov, name=name, **kwargs)
        self.decay = decay

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """One update of one weight."""
        super().update_step(tf.convert_to_tensor(gradient) + self.decay * variable, variable)

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor."""
        return {**super().get_config(), "decay": self.decay}
