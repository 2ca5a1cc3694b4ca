"""Learning rates as functions of the step. `SCHEDULES.names()` lists them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.config import TrainingConfig
from egt_tf.errors import ConfigError, as_number, check_integer
from egt_tf.keras_api import keras
from egt_tf.registry import Registry

SCHEDULES = Registry("schedule")

# A schedule learns these from the rest of the configuration.
GIVEN = ("learning_rate", "total_steps", "steps_per_epoch")


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of a step is a function of its number and of nothing else.

    A subclass computes the rate in `rate`, from a float64 scalar.

    Args:
        learning_rate: the configured rate, > 0.
        total_steps: steps of the whole training, >= 1.
        steps_per_epoch: >= 1.

    Example:
        >>> SCHEDULES.names()
        ('constant', 'cosine', 'drops', 'exponential', 'linear', 'warmup_cosine')
        >>> schedule = SCHEDULES.get("linear", learning_rate=1.0, total_steps=10, steps_per_epoch=5)
        >>> float(schedule(5))
        0.5
    """

    def __init__(self, learning_rate: float, total_steps: int, steps_per_epoch: int):
        check_integer("total_steps", total_steps, 1)
        check_integer("steps_per_epoch", steps_per_epoch, 1)
        self.learning_rate, self.total_steps, self.steps_per_epoch = learning_rate, total_steps, steps_per_epoch

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of the step that follows `step` finished ones, a float32 scalar; constant after the last step."""
        return tf.cast(self.rate(tf.minimum(tf.cast(step, tf.float64), self.total_steps)), tf.float32)

    def rate(self, step: tf.Tensor) -> tf.Tensor:
        """The same in float64, for `step` in [0, total_steps]."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Every argument of the constructor."""
        return {name: getattr(self, name) for name in GIVEN}


@SCHEDULES.register("constant")
class Constant(Schedule):
    """The same rate in every step.

    Example:
        >>> float(Constant(0.5, total_steps=10, steps_per_epoch=5)(7))
        0.5
    """

    def rate(self, step: tf.Tensor) -> tf.Tensor:
        return tf.constant(self.learning_rate, tf.float64)


@SCHEDULES.register("drops")
class Drops(Schedule):
    """Other rates from given epochs on.

    Args:
        drops: pairs of a number of finished epochs and the rate from there on, epochs ascending.

    Example:
        >>> schedule = Drops(1.0, total_steps=10, steps_per_epoch=5, drops=[[1, 0.25]])
        >>> float(schedule(4)), float(schedule(5))
        (1.0, 0.25)
    """

    def __init__(
        self, learning_rate: float, total_steps: int, steps_per_epoch: int, drops: Sequence[tuple[int, float]] = ()
    ):
        super().__init__(learning_rate, total_steps, steps_per_epoch)
        self.drops = _checked_drops(drops)

    def rate(self, step: tf.Tensor) -> tf.Tensor:
        rate = tf.constant(self.learning_rate, tf.float64)
        for epochs, dropped in self.drops:
            rate = tf.where(step >= epochs * self.steps_per_epoch, tf.constant(dropped, tf.float64), rate)
        return rate

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "drops": [list(pair) for pair in self.drops]}


@SCHEDULES.register("exponential")
class Exponential(Schedule):
    """Multiplied by a factor after every epoch.

    Args:
        factor: in (0, 1].

    Example:
        >>> schedule = Exponential(1.0, total_steps=10, steps_per_epoch=5, factor=0.5)
        >>> float(schedule(4)), float(schedule(5))
        (1.0, 0.5)
    """

    def __init__(self, learning_rate: float, total_steps: int, steps_per_epoch: int, factor: float = 0.95):
        super().__init__(learning_rate, total_steps, steps_per_epoch)
        self.factor = _number("factor", factor)
        if not 0 < self.factor <= 1:
            raise ConfigError(f"`factor` must be above 0 and at most 1. Received: factor={factor}")

    def rate(self, step: tf.Tensor) -> tf.Tensor:
        return self.learning_rate * tf.pow(tf.constant(self.factor, tf.float64), step // self.steps_per_epoch)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@SCHEDULES.register("linear")
class Linear(Schedule):
    """On a straight line to the final rate.

    Args:
        final_rate: of the step that would follow the last one, >= 0.

    Example:
        >>> float(Linear(1.0, total_steps=10, steps_per_epoch=5, final_rate=0.5)(5))
        0.75
    """

    def __init__(self, learning_rate: float, total_steps: int, steps_per_epoch: int, final_rate: float = 0.0):
        super().__init__(learning_rate, total_steps, steps_per_epoch)
        self.final_rate = _final_rate(final_rate)

    def rate(self, step: tf.Tensor) -> tf.Tensor:
        return self.learning_rate + (self.final_rate - self.learning_rate) * step / self.total_steps

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "final_rate": self.final_rate}


@SCHEDULES.register("cosine")
class Cosine(Linear):
    """As `Linear`, on half a cosine (Loshchilov and Hutter, 2017, without restarts).

    Example:
        >>> float(Cosine(1.0, total_steps=10, steps_per_epoch=5)(5))
        0.5
    """

    def rate(self, step: tf.Tensor) -> tf.Tensor:
        return _half_cosine(step / self.total_steps, self.learning_rate, self.final_rate)


@SCHEDULES.register("warmup_cosine")
class WarmupCosine(Schedule):
    """A straight climb to the rate, then half a cosine to the final one.

    Args:
        warmup_epochs: epochs of the climb, >= 0; its last step has the full rate.
        final_rate: of the step that would follow the last one, >= 0.

    Example:
        >>> schedule = WarmupCosine(1.0, total_steps=12, steps_per_epoch=4)
        >>> float(schedule(0)), float(schedule(3)), float(schedule(8))
        (0.25, 1.0, 0.5)
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        steps_per_epoch: int,
        warmup_epochs: int = 1,
        final_rate: float = 0.0,
    ):
        super().__init__(learning_rate, total_steps, steps_per_epoch)
        check_integer("warmup_epochs", warmup_epochs, 0)
        if warmup_epochs * steps_per_epoch >= total_steps:
            raise ConfigError(
                "`warmup_epochs` must be below `training.epochs`. Received: "
                f"warmup_epochs={warmup_epochs} of {total_steps // steps_per_epoch} epochs"
            )
        self.warmup_epochs, self.final_rate = warmup_epochs, _final_rate(final_rate)

    def rate(self, step: tf.Tensor) -> tf.Tensor:
        climb = self.warmup_epochs * self.steps_per_epoch
        after = _half_cosine((step - climb) / (self.total_steps - climb), self.learning_rate, self.final_rate)
        return tf.where(step < climb, self.learning_rate * (step + 1) / max(climb, 1), after)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "warmup_epochs": self.warmup_epochs, "final_rate": self.final_rate}


def schedule_of(training: TrainingConfig, epochs: int, steps_per_epoch: int) -> Schedule:
    """The schedule that the `training` part of a configuration names, for a training of so many epochs.

    Raises:
        ConfigError: it names arguments that follow from the rest, or both a schedule and `learning_rate_drops`.
    """
    arguments = training.schedule
    for name in GIVEN:
        if name in arguments:
            raise ConfigError(
                f"`training.schedule.{name}` must be left out; the rest of the configuration decides it. "
                f"Received: {arguments[name]!r}"
            )
    if training.learning_rate_drops:
        if arguments != {"name": "constant"}:
            raise ConfigError(
                "`training.learning_rate_drops` and `training.schedule` must not both be given. "
                f"Received: {[list(drop) for drop in training.learning_rate_drops]} and {arguments}"
            )
        arguments = {"name": "drops", "drops": training.learning_rate_drops}
    return SCHEDULES.get(
        arguments,
        learning_rate=training.learning_rate,
        total_steps=epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
    )


def _half_cosine(share: tf.Tensor, first: float, last: float) -> tf.Tensor:
    return last + (first - last) * (1.0 + tf.cos(math.pi * share)) / 2.0


def _number(name: str, value: Any) -> float:
    number = as_number(value)
    if number is None:
        raise ConfigError(f"`{name}` must be a number. Received: {name}={value!r}")
    return number


def _final_rate(value: object) -> float:
    rate = _number("final_rate", value)
    if rate < 0:
        raise ConfigError(f"`final_rate` must be >= 0. Received: final_rate={rate}")
    return rate


def _checked_drops(drops: Any) -> tuple[tuple[int, float], ...]:
    pairs = drops if isinstance(drops, (list, tuple)) else [drops]
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise ConfigError(f"`drops` must be a list of [epochs, rate] pairs. Received: {drops!r}")
    for epochs, _ in pairs:
        check_integer("epochs of a drop", epochs, 1)
    result = tuple((int(epochs), _number("rate of a drop", rate)) for epochs, rate in pairs)
    if any(rate <= 0 for _, rate in result) or any(a >= b for (a, _), (b, _) in itertools.pairwise(result)):
        raise ConfigError(f"`drops` must have rates > 0 and ascending epochs. Received: {drops!r}")
    return result
