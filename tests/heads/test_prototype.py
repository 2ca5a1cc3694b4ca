from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.heads import PrototypeHead
from egt_tf.lrp import COMPOSITES
from egt_tf.training.guidance import guided_scores
from tests.heads.feature_episodes import episodes, prototypes_of
from tests.layer_harness import check_layer


def test_layer(tmp_path):
    check_layer(
        lambda: PrototypeHead((4, 3, 5), seed=1),
        episodes((4, 3, 5)),
        [[1], [1, 2], [1]],
        tmp_path,
        differentiable=(0, 2),
    )


@pytest.mark.parametrize(
    ("shape", "ways", "shots", "queries"), [((4, 3, 5), 3, 2, 4), ((1, 1, 8), 2, 1, 1), ((6, 6, 4), 5, 3, 7)]
)
def test_scores_are_squared_distances_but_for_what_the_classes_share(shape, ways, shots, queries):
    inputs = episodes(shape, ways=ways, shots=shots, queries=queries)
    prototypes, query = (x.mean((2, 3)) for x in (prototypes_of(inputs), inputs[2].astype(np.float64)))
    distances = np.square(query[:, :, None] - prototypes[:, None]).sum(-1)
    head = PrototypeHead(shape)
    scores = head(inputs)
    np.testing.assert_allclose(scores, np.square(query).sum(-1)[..., None] - distances, rtol=1e-4, atol=1e-5)
    probabilities = np.exp(-distances) / np.exp(-distances).sum(-1, keepdims=True)
    np.testing.assert_allclose(head.probabilities(scores), probabilities, rtol=1e-4)


def test_a_scale_multiplies_the_scores(tmp_path):
    inputs = episodes((4, 3, 5))
    np.testing.assert_allclose(
        PrototypeHead((4, 3, 5), scale=0.25)(inputs), PrototypeHead((4, 3, 5))(inputs) / 4, rtol=1e-6
    )
    check_layer(
        lambda: PrototypeHead((4, 3, 5), scale=0.25, seed=1),
        inputs,
        [[1], [1, 2], [1]],
        tmp_path,
        differentiable=(0, 2),
    )
    with pytest.raises(ConfigError, match="`scale` must be a number > 0"):
        PrototypeHead((4, 3, 5), scale=0)


def test_relevance_is_the_share_of_the_evidence():
    """Channels that both have, that the query alone has, and that the prototype alone has."""
    pairs = np.zeros((1, 1, 2, 1, 1, 6), np.float32)
    prototype, query = [1, 0, 0.5], [1, 1, 0]
    pairs[0, 0, 0, 0, 0] = prototype + query
    pairs[0, 0, 1, 0, 0] = [0, 0.25, 0, *query]
    result = guided_scores(PrototypeHead((1, 1, 3)), tf.constant(pairs), COMPOSITES.get("epsilon"))
    np.testing.assert_allclose(result.plain[0, 0], [0.75, 0.4375], rtol=1e-5)
    start = float(result.output_relevance[0, 0, 0])
    # 2 q p - p^2 is 1, 0 and -1/4 of 3/4; the product's relevance goes to both, that of -p^2 to the prototype.
    of_prototype, of_query = result.relevance[0].numpy()[0, 0, 0, 0, 0].reshape(2, 3) / start
    np.testing.assert_allclose(of_query, [4 / 3, 0, 0], atol=1e-3)
    np.testing.assert_allclose(of_prototype, [0, 0, -1 / 3], atol=1e-3)
