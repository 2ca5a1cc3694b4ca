from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import ConfigError
from egt_tf.heads import HEADS, CosineHead
from egt_tf.lrp import COMPOSITES
from egt_tf.training.guidance import guided_scores
from tests.heads.feature_episodes import episodes, prototypes_of
from tests.layer_harness import check_layer


def test_layer(tmp_path):
    check_layer(
        lambda: CosineHead((4, 3, 5), scale=4.0, seed=1),
        episodes((4, 3, 5)),
        [[1], [1, 2], [1]],
        tmp_path,
        differentiable=(0, 2),
    )


@pytest.mark.parametrize(
    ("shape", "ways", "shots", "queries"), [((4, 3, 5), 3, 2, 4), ((1, 1, 8), 2, 1, 1), ((6, 6, 4), 5, 3, 7)]
)
@pytest.mark.parametrize("scale", [10, 0.5])
def test_scores_are_cosines(shape, ways, shots, queries, scale):
    inputs = episodes(shape, ways=ways, shots=shots, queries=queries)
    prototypes, query = (x.mean((2, 3)) for x in (prototypes_of(inputs), inputs[2].astype(np.float64)))
    products = np.einsum("ekc,ejc->ejk", prototypes, query)
    cosines = products / np.linalg.norm(query, axis=-1)[..., None] / np.linalg.norm(prototypes, axis=-1)[:, None]
    np.testing.assert_allclose(CosineHead(shape, scale=scale)(inputs), scale * cosines, rtol=1e-4, atol=1e-5)


def test_relevance_of_the_pairs():
    """Published shares, in float64: channels by their part of the cosine, positions by their part of the mean."""
    inputs = episodes()
    head = CosineHead((4, 4, 5))
    pairs = head.relate(*inputs)
    result = guided_scores(head, pairs, COMPOSITES.get("fsc"))
    maps = np.split(np.asarray(pairs, np.float64), 2, axis=-1)
    means = [x.mean((3, 4)) for x in maps]
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in means]
    product = unit[0] * unit[1]
    start = np.asarray(result.output_relevance, np.float64)[..., None]
    channel = start * product / (product.sum(-1, keepdims=True) + 0.01)
    expected = [channel[:, :, :, None, None] * x / (x.sum((3, 4), keepdims=True) + 0.01) for x in maps]
    np.testing.assert_allclose(result.relevance[0], np.concatenate(expected, axis=-1), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [0, -1, "10", None, float("inf")])
def test_bad_scales_are_refused(scale):
    with pytest.raises(ConfigError, match="`scale` must be a number > 0"):
        HEADS.get({"name": "cosine", "feature_shape": (6, 6, 4), "scale": scale})
