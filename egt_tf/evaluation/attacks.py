"""Adversarial attacks in the maximum norm, as pure functions of a gradient. Pixels are in [0, 1]."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from egt_tf.errors import ConfigError, check_integer
from egt_tf.registry import Registry

EPSILON = 4 / 255
STEPS = 20
# How far all steps together could go, in epsilons.
_REACH = 2.5

ATTACKS = Registry("attack")

# Pixels and the number of the step, from 0 on, to the slope of what the attack makes larger, of the shape of the pixels.
Gradient = Callable[[tf.Tensor, int], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Attack:
    """How pixels are changed; `fgsm`, `pgd` and `random_signs` make one.

    Attributes:
        name: of the attack.
        epsilon: largest change of a pixel, in [0, 1].
        steps: >= 1.
        step_size: change of a pixel in a step, >= 0.
        random_start: begin anywhere within epsilon, not at the image.
        restarts: how often it is begun, >= 1.
        informed: follow the signs of the gradient; False: random signs.

    Raises:
        ConfigError: a value is out of its range.

    Example:
        >>> str(pgd(epsilon=8 / 255, steps=10))
        'pgd, epsilon 8/255, 10 steps'
    """

    name: str
    epsilon: float
    steps: int
    step_size: float
    random_start: bool = False
    restarts: int = 1
    informed: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ConfigError(f"`epsilon` must be a number in [0, 1]. Received: epsilon={self.epsilon!r}")
        check_integer("steps", self.steps, 1)
        check_integer("restarts", self.restarts, 1)

    def __str__(self) -> str:
        start = "" if self.random_start else " from the image"
        steps = "" if self.steps == 1 else f", {self.steps} steps{start}"
        restarts = "" if self.restarts == 1 else f", {self.restarts} restarts"
        return f"{self.name}, epsilon {epsilon_text(self.epsilon)}{steps}{restarts}"


@ATTACKS.register("fgsm")
def fgsm(epsilon: float = EPSILON) -> Attack:
    """One step of size epsilon along the signs of the gradient (Goodfellow, Shlens, Szegedy, ICLR 2015).

    Args:
        epsilon: largest change of a pixel, in [0, 1].
    """
    return Attack("fgsm", epsilon, 1, epsilon)


@ATTACKS.register("pgd")
def pgd(epsilon: float = EPSILON, steps: int = STEPS, restarts: int = 1, random_start: bool = True) -> Attack:
    """Projected gradient descent (Madry et al., ICLR 2018): steps of size `2.5 epsilon / steps` from a random start.

    Args:
        epsilon: largest change of a pixel, in [0, 1].
        steps: >= 1.
        restarts: >= 1; the worst is taken.
        random_start: begin anywhere within epsilon, uniformly, not at the image.
    """
    check_integer("steps", steps, 1)
    return Attack("pgd", epsilon, steps, _REACH * epsilon / steps, random_start, restarts)


@ATTACKS.register("random")
def random_signs(epsilon: float = EPSILON) -> Attack:
    """One step of size epsilon along random signs: the control, which knows nothing of the model.

    Args:
        epsilon: largest change of a pixel, in [0, 1].
    """
    return Attack("random", epsilon, 1, epsilon, informed=False)


def epsilon_text(epsilon: float) -> str:
    """A whole number of grey levels as N/255, another one as it is.

    Example:
        >>> epsilon_text(4 / 255), epsilon_text(0.01)
        ('4/255', '0.01')
    """
    levels = round(255 * epsilon)
    return f"{levels}/255" if 0 < epsilon == levels / 255 else str(epsilon)


def perturbed(
    gradient: Gradient,
    pixels: tf.Tensor,
    attack: Attack,
    rng: np.random.Generator,
    allowed: tf.Tensor | float = 1.0,
) -> tf.Tensor:
    """Changes pixels as an attack says, once, whatever its restarts.

    `x_0 = clip(x + u)` and `x_{t+1} = clip(x_t + step_size sign g(x_t))`, with u uniform in [-epsilon, epsilon] or 0, and
    `clip` to `[x - epsilon, x + epsilon]` and to [0, 1].

    Args:
        gradient: of what is to become larger.
        pixels: x, in [0, 1].
        attack: says how.
        rng: of the start and of random signs.
        allowed: 1 where a pixel may change and 0 where not, of a shape that broadcasts to the pixels.

    Returns:
        Of the shape of the pixels.

    Example:
        >>> x = tf.constant([0.5, 0.5, 0.99])
        >>> perturbed(lambda x, step: tf.constant([1.0, -2.0, 3.0]), x, fgsm(0.1), np.random.default_rng(0)).numpy()
        array([0.6, 0.4, 1. ], dtype=float32)
    """
    reach = tf.cast(attack.epsilon * allowed, pixels.dtype)
    low, high = tf.maximum(pixels - reach, 0.0), tf.minimum(pixels + reach, 1.0)

    def noise() -> tf.Tensor:
        return tf.constant(rng.uniform(-1.0, 1.0, pixels.shape), pixels.dtype)

    x = tf.clip_by_value(pixels + reach * noise(), low, high) if attack.random_start else pixels
    for step in range(attack.steps):
        slope = gradient(x, step) if attack.informed else noise()
        x = tf.clip_by_value(x + attack.step_size * tf.sign(slope), low, high)
    return x


def expected_gradient(of_draw: Callable[[tf.Tensor, int], tf.Tensor], draws: Callable[[], Sequence[int]]) -> Gradient:
    """The mean gradient over random draws: expectation over transformation (Athalye et al., ICML 2018).

    Args:
        of_draw: from pixels and the number of a draw to the gradient.
        draws: gives the draws of a step, anew at each call.

    Example:
        >>> found = expected_gradient(lambda x, draw: draw * x, lambda: [1, 2, 6])
        >>> found(tf.constant([2.0]), 0).numpy()
        array([6.], dtype=float32)
    """

    def gradient(pixels: tf.Tensor, step: int) -> tf.Tensor:
        found = [of_draw(pixels, draw) for draw in draws()]
        return tf.add_n(found) / len(found)

    return gradient
