"""Numbers that are not finite: found in the step they arise in, before it changes a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from egt_tf.keras_api import keras


class Health(tf.Module):
    """Remembers the first step that had a number which is not finite, and in which tensor.

    The tensors of a step are only summed up, since a sum is finite as long as every number is. Which one is not
    finite is looked for when the sum is not. Nothing is raised in the graph, where neither compilation by XLA nor a
    distribution over replicas would allow it: `failure` is to be asked afterwards.
    """

    def __init__(self) -> None:
        super().__init__(name="health")
        # The number of a tensor and the step; every replica writes the same into its copy.
        self._found = tf.Variable([-1, -1], trainable=False, dtype=tf.int64, name="found")
        self._names: tuple[str, ...] = ()

    def check(
        self,
        weights: Mapping[str, tf.Variable],
        tensors: Mapping[str, tf.Tensor],
        gradients: Mapping[str, tf.Tensor],
        step: tf.Tensor,
        excused: bool | tf.Tensor = False,
    ) -> tf.Tensor:
        """Whether a step may change the weights. To be called where the step is computed, by every replica.

        Args:
            weights: what the step is computed from; only looked at when another number is not finite, to name the
                cause.
            tensors: what may never hold a number that is not finite, in the order it is computed in.
            gradients: likewise, unless `excused` is true.
            step: number of the step, int64.
            excused: gradients may overflow: the step is repeated with a smaller loss scale.

        Returns:
            A bool scalar, the same on all replicas; false from the first bad step on.
        """
        # Known as soon as the step is traced, and the same whenever it is.
        self._names = (*weights, *tensors, *gradients)
        watched = [*tensors.values(), *gradients.values()]
        total = tf.add_n([tf.reduce_sum(tf.cast(tensor, tf.float32)) for tensor in watched])
        forgiven = tf.concat(
            [tf.zeros(len(weights) + len(tensors), tf.bool), tf.fill([len(gradients)], tf.convert_to_tensor(excused))],
            axis=0,
        )
        counts = tf.cond(
            tf.math.is_finite(total),
            lambda: tf.zeros(len(self._names)),
            lambda: _bad([*weights.values(), *watched], forgiven),
        )
        counts = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, counts)
        bad = tf.reduce_any(counts > 0)
        now = tf.stack([tf.argmax(tf.cast(counts > 0, tf.float32)), tf.cast(step, tf.int64)])
        found = tf.where(bad & (self._found[0] < 0), now, self._found)
        self._found.assign(found)
        return found[0] < 0

    def failure(self) -> tuple[str, int] | None:
        """The name of the first bad tensor and its step; None as long as all is well."""
        index, step = self._found.numpy().tolist()
        return None if index < 0 else (self._names[index], step)


def _bad(tensors: Sequence[tf.Tensor], forgiven: tf.Tensor) -> tf.Tensor:
    """1 for each tensor with a number that is not finite and is not forgiven, else 0."""
    bad = tf.stack([~tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(tensor))) for tensor in tensors])
    return tf.cast(bad & ~forgiven, tf.float32)


def may_overflow(optimizer: keras.optimizers.Optimizer) -> bool | tf.Tensor:
    """Whether the optimizer leaves a step out, and lowers its loss scale, when gradients are not finite.

    At a loss scale of 1 it would leave out every further step, without end.
    """
    if not isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer) or not optimizer.dynamic:
        return False
    return optimizer.loss_scale > 1.0


def apply_if(
    healthy: tf.Tensor, optimizer: keras.optimizers.Optimizer, gradients: Sequence[tuple[tf.Tensor, tf.Variable]]
) -> None:
    """`optimizer.apply_gradients`, or nothing at all. To be called where the step is computed, by every replica.

    Args:
        healthy: a bool scalar, the same on all replicas.
        optimizer: the optimizer.
        gradients: of this replica, each with its variable.
    """
    pairs = [pair for pair in gradients if pair[0] is not None]
    variables = [variable for _, variable in pairs]
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    # Before the choice: replicas wait for each other here.
    summed = [gradient for gradient, _ in inner.aggregate_gradients(pairs)]

    def update(*values: tf.Tensor) -> None:
        optimizer.apply_gradients(list(zip(values, variables, strict=True)), skip_gradients_aggregation=True)

    def choose(strategy: tf.distribute.Strategy, healthy: tf.Tensor, *values: tf.Tensor) -> None:
        def update_all() -> None:
            strategy.run(update, args=values)

        # Out of the replicas, since an optimizer may not join them again within a branch.
        tf.cond(strategy.experimental_local_results(healthy)[0], update_all, lambda: None)

    with tf.init_scope():
        optimizer.build(variables)
    tf.distribute.get_replica_context().merge_call(choose, args=(healthy, *summed))


class Statistics:
    """Moving averages, which a model changes while it predicts, with the values that they had before.

    Args:
        model: the model; frozen weights are not looked at.
    """

    def __init__(self, model: keras.Model):
        self._variables = [
            variable
            for variable in model.non_trainable_variables
            if variable.synchronization == tf.VariableSynchronization.ON_READ
        ]
        self._before = [tf.identity(variable) for variable in self._variables]

    def keep_if(self, healthy: tf.Tensor) -> None:
        """Sets the averages back unless `healthy`."""
        for variable, before in zip(self._variables, self._before, strict=True):
            variable.assign(tf.where(healthy, variable, before))

    def restore(self) -> None:
        """Sets the averages back."""
        for variable, before in zip(self._variables, self._before, strict=True):
            variable.assign(before)
