"""Gives errors that Keras and TensorFlow wrap their own message around their original one back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from egt_tf.data.pipeline import data_errors
from egt_tf.errors import EgtError, release_frames


@contextlib.contextmanager
def original_errors() -> Iterator[None]:
    """Within the block, an `EgtError` raised inside `fit` appears as itself, with its one-line message.

    What is raised while Keras traces a training step or calls a layer comes out as another error, whose text holds
    the lines of code it passed; what is raised in a data set comes out as described at `data_errors`. Errors that
    are no `EgtError` pass unchanged.
    """
    try:
        with data_errors():
            yield
    except BaseException as error:
        # A script that is interrupted would not end otherwise.
        release_frames(error)
        original = _innermost(error)
        if original is None or original is error:
            raise
        raise original from None


def _innermost(error: BaseException | None) -> EgtError | None:
    """The first `EgtError` that was raised among those that led to `error`."""
    found = None
    while error is not None:
        found = error if isinstance(error, EgtError) else found
        error = error.__cause__ or error.__context__
    return found
