"""Gives errors that Keras and TensorFlow wrap their own message around their original one back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from egt_tf.data.pipeline import data_errors
from egt_tf.errors import original_error, release_frames


@contextlib.contextmanager
def original_errors() -> Iterator[None]:
    """Within the block, an `EgtError` raised inside `fit` appears as itself, with its one-line message.

    See `original_error` for what is raised in a model, and `data_errors` for what is raised in a data set.
    """
    try:
        with original_error(), data_errors():
            yield
    except BaseException as error:
        # A script that is interrupted would not end otherwise; the command line sees to that itself.
        release_frames(error)
        raise
