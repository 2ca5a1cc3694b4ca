"""The random numbers of `tf.random.stateless_uniform` for many seeds at once; TensorFlow takes one seed at a time.

Reference: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox 4x32-10).
"""

from __future__ import annotations

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
_ROUNDS = 10
# TensorFlow does not use a seed as the key; it scrambles the seed with this key first.
_SCRAMBLING_KEY = (np.uint32(0x3EC8F720), np.uint32(0x02461E29))


def first_uniforms(seeds: np.ndarray) -> np.ndarray:
    """The number that `tf.random.stateless_uniform([], seed, alg="philox")` gives for each seed, bit by bit.

    Args:
        seeds: integers `(n, 2)`.

    Returns:
        float32 `(n,)` in [0, 1).
    """
    words = np.ascontiguousarray(seeds, np.dtype("<i8")).view(np.dtype("<u4")).astype(np.uint32)
    scrambled = _philox(words.T, [np.full(len(words), word) for word in _SCRAMBLING_KEY])
    zeros = np.zeros(len(words), np.uint32)
    bits = _philox([zeros, zeros, scrambled[2], scrambled[3]], scrambled[:2])[0]
    # 23 random bits behind the point of a number in [1, 2).
    return ((bits & np.uint32(0x7FFFFF)) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def _philox(counter, key):
    for _ in range(_ROUNDS):
        products = [
            factor * word.astype(np.uint64) for factor, word in zip(_MULTIPLIERS, (counter[0], counter[2]), strict=True)
        ]
        (high0, low0), (high1, low1) = (((p >> np.uint64(32)).astype(np.uint32), p.astype(np.uint32)) for p in products)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [word + step for word, step in zip(key, _KEY_STEPS, strict=True)]
    return counter
