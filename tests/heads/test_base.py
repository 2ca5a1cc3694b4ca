from __future__ import annotations

import numpy as np
import pytest

from egt_tf.errors import ConfigError
from egt_tf.heads import HEADS, Head, RelationHead


@pytest.mark.parametrize("shape", [(), (5, 5), (5, 5, 64, 1), (0, 5, 64), (5, -1, 64), (5, None, 64)])
def test_feature_shape_must_be_a_map(shape):
    with pytest.raises(ConfigError, match="`feature_shape` must be"):
        Head(shape)


def test_config_holds_the_feature_shape():
    head = Head([4, 5, 6])
    assert head.feature_shape == (4, 5, 6)
    assert Head.from_config(head.get_config()).feature_shape == (4, 5, 6)


def test_probabilities_are_the_softmax_over_the_ways():
    scores = np.array([[[0.0, 1.0, -2.0], [3.0, 3.0, 3.0]]], np.float32)
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(Head((1, 1, 1)).probabilities(scores), expected, rtol=1e-6)


def test_the_loss_is_the_subclass_s_business():
    with pytest.raises(NotImplementedError):
        Head((1, 1, 1)).loss(np.zeros((1, 1, 2)), np.zeros((1, 1)))
    assert not Head((1, 1, 1)).uses_batch_statistics


def test_the_table_of_heads():
    assert "relation" in HEADS.names()
    assert isinstance(HEADS.get("relation", feature_shape=(4, 4, 2)), RelationHead)
    with pytest.raises(ConfigError, match="unknown head 'relatoin'; did you mean 'relation'"):
        HEADS.get("relatoin", feature_shape=(4, 4, 2))
    with pytest.raises(ConfigError, match="takes no argument 'hiden'; did you mean 'hidden'"):
        HEADS.get({"name": "relation", "hiden": 3}, feature_shape=(4, 4, 2))


def test_weights_that_training_alone_uses_are_weights_of_the_head():
    head = HEADS.get({"name": "cross_attention", "base_classes": 4}, feature_shape=(4, 4, 2))
    mine = {id(w) for w in head.trainable_weights}
    assert head.auxiliary_model.weights
    assert all(id(w) in mine for w in head.auxiliary_model.weights)
    assert Head((1, 1, 1)).auxiliary_model is None
