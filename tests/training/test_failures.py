from __future__ import annotations

from multiprocessing.pool import ThreadPool

import pytest
import tensorflow as tf

from egt_tf.training.failures import original_errors


def test_threads_of_a_failed_sum_over_workers_end():
    def lose(_):
        raise tf.errors.UnavailableError(None, None, "gone")

    pool = ThreadPool(1)
    with pytest.raises(tf.errors.UnavailableError, match="gone"), original_errors():
        pool.map(lose, [0])
    with pytest.raises(ValueError, match="not running"):
        pool.map(str, [0])
