"""What ends a training: numbers that are not finite, and errors that Keras and TensorFlow wrap their own around."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np

from egt_tf.data.loading import data_errors
from egt_tf.errors import RunError, original_error, release_frames


@contextlib.contextmanager
def original_errors() -> Iterator[None]:
    """Within the block, an `EgtError` raised inside `fit` appears as itself, with its one-line message.

    See `original_error` for what is raised in a model, and `data_errors` for what is raised in a data set.
    """
    try:
        with original_error(), data_errors():
            yield
    except BaseException as error:
        close_pools(error)
        # A script that is interrupted would not end otherwise; the command line sees to that itself.
        release_frames(error)
        raise


def close_pools(error: BaseException) -> None:
    """Closes the pools of threads in whose `map` an error was raised.

    TensorFlow reads a variable of several workers by such a pool, which it closes only where that ends well. One that
    is left open can print a traceback when Python shuts down.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        pool = frame.f_locals.get("self")
        if isinstance(pool, ThreadPool):
            pool.close()


def check_finite(loss: float, weights: Mapping[str, np.ndarray], epoch: int, state: Path) -> None:
    """Checks what an epoch ended with, before it is stored.

    Args:
        loss: of the epoch.
        weights: after it; its last step can spoil them after the loss was measured.
        epoch: its number, from 1 on.
        state: the file that holds the state before it.

    Raises:
        RunError: a number is not finite.
    """
    if not math.isfinite(loss) or not all(np.isfinite(array).all() for array in weights.values()):
        raise RunError(
            f"the loss and the weights must stay finite. Received: loss {loss} in epoch {epoch}; the state "
            f"after epoch {epoch - 1} is kept in {state}. Train into a new folder with a smaller "
            "training.learning_rate"
        )
