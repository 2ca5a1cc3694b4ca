from __future__ import annotations

from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError, DataError, as_number, original_error, release_frames


def test_threads_of_a_failed_sum_over_workers_end():
    def lose(_):
        raise tf.errors.UnavailableError(None, None, "gone")

    pool = ThreadPool(1)
    with pytest.raises(tf.errors.UnavailableError, match="gone") as raised:
        pool.map(lose, [0])
    release_frames(raised.value)
    with pytest.raises(ValueError, match="not running"):
        pool.map(str, [0])


def test_of_several_errors_the_first_one_appears():
    with pytest.raises(ConfigError, match=r"^the first$"), original_error():
        try:
            try:
                raise ConfigError("the first")
            except ConfigError as error:
                raise RuntimeError("in between") from error
        except RuntimeError as error:
            raise DataError("the last") from error


def test_a_message_in_the_text_of_an_error_of_tensorflow_appears():
    text = (
        "in a graph\nTraceback (most recent call last):\n"
        "egt_tf.errors.DataError: cannot read 7.png: truncated\n\n[node]"
    )
    with pytest.raises(DataError, match=r"^cannot read 7\.png: truncated$"), original_error():
        raise tf.errors.InvalidArgumentError(None, None, text)


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("egt_tf.errors.DataError: x"), tf.errors.InvalidArgumentError(None, None, "x")]
)
def test_other_errors_pass_unchanged(error):
    with pytest.raises(type(error)) as raised, original_error():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("value", "number"), [(2, 2.0), (0.5, 0.5), ("3e-4", 3e-4), (np.float32(0.5), 0.5), ("a", None), ("", None)]
)
def test_numbers_may_be_text(value, number):
    assert as_number(value) == number


@pytest.mark.parametrize("value", [True, None, [1], 10**400, "inf", float("nan"), 1j])
def test_what_is_no_number(value):
    assert as_number(value) is None
