"""Training in mixed precision, without a trace of it outside of the training."""

from __future__ import annotations

import tensorflow as tf

from egt_tf.keras_api import keras


def with_loss_scale(optimizer: keras.optimizers.Optimizer, precision: str) -> keras.optimizers.Optimizer:
    """`optimizer`, with a loss scale where gradients would vanish without one.

    The range of bfloat16 is that of float32, so it needs none.
    """
    return keras.mixed_precision.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


def state_variables(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """Every variable that an optimizer goes on from: its own, and those of a loss scale."""
    if not isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer) or not optimizer.dynamic:
        return list(optimizer.variables)
    # Keras gives the value of the scale, but its variable only here.
    return [*optimizer.variables, optimizer._loss_scale.current_loss_scale, optimizer.dynamic_counter]
