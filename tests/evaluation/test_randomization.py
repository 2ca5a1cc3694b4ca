"""Maps while layers lose their weights."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig
from egt_tf.data import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.evaluation.judged_queries import draw_queries
from egt_tf.evaluation.randomization import randomize
from egt_tf.explain.methods import get_method

SIZE = 32
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    model = EpisodicModel.build_from({"name": "conv4", "width": 8}, "prototype", SIZE, seed=1)
    queries = list(draw_queries(open_source("synthetic:sketch").split("novel"), EpisodeConfig(2, 1, 1), 2, 0, SIZE))
    before = model.get_weights()
    result = randomize(model, [get_method("gradient"), get_method("guided_backprop")], queries)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    return result


def test_layers_come_from_the_top(found):
    assert found.layers == tuple(f"block{i}_{part}" for i in (4, 3, 2, 1) for part in ("bn", "conv"))
    assert found.correlations.shape == (2, 8, 2)


def test_the_gradient_looks_at_the_weights_and_guided_backpropagation_hardly_does(found):
    """Known of both from the literature: Adebayo et al., 2018."""
    gradient, guided = found.correlations[:, 1].mean(-1)
    assert gradient < 0.5
    assert guided > gradient + 0.2
