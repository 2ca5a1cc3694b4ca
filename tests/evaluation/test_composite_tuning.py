"""A composite chosen by measuring: among candidates whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.config import EpisodeConfig
from egt_tf.data import open_source
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.evaluation.composite_tuning import grid_of, tune
from egt_tf.evaluation.explanation_measures import QUICK, Measure
from egt_tf.evaluation.judged_queries import draw_queries
from egt_tf.explain.methods import Method

SIZE = 16


@pytest.fixture(scope="module")
def model():
    return EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", SIZE, seed=1)


@pytest.fixture(scope="module")
def queries():
    images = open_source("synthetic:sketch").split("novel")
    return list(draw_queries(images, EpisodeConfig(3, 1, 1), 6, seed=0, size=SIZE))


def of_level(name, level):
    """A method whose maps have a given level everywhere."""

    def maps(model, inputs, selects):
        return [[tf.zeros_like(x) + level / 3 for x in inputs] for _ in selects]

    return Method(name, "known", maps, distributes=False)


def level(better):
    """A measure that is the level of the maps of the methods, without the control."""
    return Measure("level", better, "the level", lambda judged: judged.maps.mean((1, 2)))


@pytest.mark.parametrize(("better", "best", "gain"), [("higher", "c", 2.0), ("lower", "a", 0.0)])
def test_the_best_is_chosen_whatever_the_direction(better, best, gain, model, queries):
    candidates = [of_level("b", 2.0), of_level("c", 3.0), of_level("a", 1.0)]
    seen = []
    found = tune(
        model,
        candidates,
        of_level("against", 1.0),
        queries,
        level(better),
        QUICK,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert found.candidates[found.best] == best
    np.testing.assert_allclose(found.values, np.repeat([[2.0], [3.0], [1.0]], 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.gains, [gain] * 3, atol=1e-5)
    assert seen == [(done, 6) for done in range(1, 7)]


def test_the_gain_is_of_queries_that_were_not_chosen_on(model, queries):
    judged = []

    def of(each):
        judged.append((each.image.tobytes(), len(each.maps)))
        return each.maps.mean((1, 2))

    tune(model, [of_level("a", 1.0)], of_level("b", 0.0), queries, Measure("of", "higher", "", of), QUICK)
    images = [query.image.tobytes() for query in queries]
    # The candidate, then the chosen one beside the other; behind each the control.
    assert judged == [(each, 2) for each in images[::2]] + [(each, 3) for each in images[1::2]]


def test_what_is_not_defined_is_left_out(model, queries):
    def of(judged):
        values = judged.maps.mean((1, 2))
        return np.where(judged.image.tobytes() == queries[1].image.tobytes(), np.nan, values)

    found = tune(model, [of_level("a", 3.0)], of_level("b", 1.0), queries, Measure("of", "higher", "", of), QUICK)
    assert len(found.gains) == 2


def test_what_is_wrong(model, queries):
    with pytest.raises(ConfigError, match=r"at least 4 queries\. Received: 3"):
        tune(model, [of_level("a", 1.0)], of_level("b", 1.0), queries[:3], level("higher"), QUICK)
    undefined = Measure("of", "higher", "", lambda judged: np.full(len(judged.maps), np.nan))
    with pytest.raises(ConfigError, match="must be defined for a candidate"):
        tune(model, [of_level("a", 1.0)], of_level("b", 1.0), queries, undefined, QUICK)
    with pytest.raises(ConfigError, match="none for gamma"):
        grid_of({"gamma": []})
    with pytest.raises(ConfigError, match="none for any"):
        grid_of({})
