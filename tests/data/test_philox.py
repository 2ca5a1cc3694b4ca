from __future__ import annotations

import numpy as np
import tensorflow as tf

from egt_tf.data.philox import first_uniforms


def test_the_numbers_are_those_of_tensorflow():
    seeds = np.random.default_rng(3).integers(-(2**31), 2**31, (300, 2))
    seeds[:3] = [[0, 0], [2**31 - 1, -1], [-(2**31), 1]]
    expected = [tf.random.stateless_uniform([], seed, alg="philox").numpy() for seed in seeds]
    for kind in (np.int32, np.int64):
        np.testing.assert_array_equal(first_uniforms(seeds.astype(kind)), expected)
    large = np.array([[2**40 + 3, -(2**50)]])
    assert first_uniforms(large)[0] == tf.random.stateless_uniform([], large[0], alg="philox").numpy()
