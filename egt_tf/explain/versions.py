"""Many versions of a model's input, several of which pass the model at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from egt_tf.lrp.propagation import Trace

# Bytes that the layers of all versions of one pass may put out.
MEMORY = 2**29


def merged(versions: tf.Tensor) -> tf.Tensor:
    """`(versions, batch, ...)` as one batch, version by version.

    Example:
        >>> merged(tf.zeros((3, 2, 5))).shape
        TensorShape([6, 5])
    """
    return tf.reshape(versions, tf.concat([[-1], tf.shape(versions)[2:]], axis=0))


def sum_of_parts(
    of_part: Callable[[tf.Tensor], list[tf.Tensor]], like: Sequence[tf.Tensor], count: int, together: int
) -> list[tf.Tensor]:
    """The sum over versions of something that is computed of several at once.

    Works eagerly and inside a `tf.function`, whose graph holds one part, whatever their number.

    Args:
        of_part: from the number of the first version of a part to the sums over that part.
        like: tensors of the shapes of these sums.
        count: versions altogether.
        together: versions in a part, a divisor of their number.

    Example:
        >>> (total,) = sum_of_parts(lambda first: [tf.cast(first, tf.float32)], [tf.zeros(())], count=6, together=2)
        >>> float(total)  # 0 + 2 + 4
        6.0
    """

    def add(sums: list[tf.Tensor], first: tf.Tensor) -> list[tf.Tensor]:
        return [total + each for total, each in zip(sums, of_part(first), strict=True)]

    zeros = [tf.zeros_like(x) for x in like]
    return tf.foldl(add, tf.range(0, count, together), initializer=zeros, parallel_iterations=1)


def versions_at_once(trace: Trace, count: int, memory: int = MEMORY, share: float = 1.0) -> int:
    """How many versions of what a trace has recorded fit into the memory: the largest divisor of their number.

    Args:
        trace: of one version.
        count: versions altogether.
        memory: bytes that the layers may put out, once forward and once for the derivative.
        share: how much of what was recorded a version repeats.

    Returns:
        1 at least, and where a shape is not known.

    Example:
        >>> from egt_tf.lrp.propagation import record
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> trace = record(model, [tf.ones((1, 2))])  # three numbers of four bytes, twice
        >>> versions_at_once(trace, 10, memory=100), versions_at_once(trace, 10, memory=10)
        (2, 1)
    """
    sizes = [(y.shape.num_elements(), y.dtype.size) for call in trace.calls for y in call.outputs]
    if any(elements is None for elements, _ in sizes):
        return 1
    of_one = 2 * share * sum(elements * size for elements, size in sizes)
    return max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * of_one <= memory))
