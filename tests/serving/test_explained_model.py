from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from egt_tf.data.support import SupportSet
from egt_tf.evaluation.judged_queries import JudgedQuery
from egt_tf.serving.explained_model import ExplainedExport

QUERY = JudgedQuery(
    SupportSet(("ant", "bee"), np.zeros((2, 1, 4, 4, 3), np.uint8)), np.zeros((4, 4, 3), np.uint8), None
)


def explained():
    """Of a model whose raw scores are the mean grey level and its half."""
    asked = []

    def ask(signature, inputs):
        queries = inputs["query_images"]
        asked.append(len(queries))
        scores = queries.mean((1, 2, 3))[:, None] * [1.0, 0.5]
        exponentials = np.exp(scores)
        return {"probabilities": exponentials / exponentials.sum(-1, keepdims=True), "relevance": queries[..., 0]}

    spec = SimpleNamespace(shape=(None, 4, 4, 3))
    return ExplainedExport(SimpleNamespace(inputs=lambda signature: {"query_images": spec}, ask=ask), "fsc"), asked


def test_scores_are_the_raw_ones_less_their_mean_in_requests_of_a_bounded_size():
    subject, asked = explained()
    levels = np.arange(150, dtype=np.uint8) % 8
    images = np.broadcast_to(levels[:, None, None, None], (150, 4, 4, 3))
    scores = subject.answers(QUERY).scores(images)
    np.testing.assert_allclose(scores, levels[:, None] * [0.25, -0.25], atol=1e-12)
    assert asked == [16] * 9 + [6]


def test_a_probability_of_zero_has_a_finite_score():
    subject, _ = explained()
    bright = np.full((1, 4, 4, 3), 255, np.uint8)
    subject._model.ask = lambda signature, inputs: {"probabilities": np.array([[1.0, 0.0]], np.float32)}
    assert np.isfinite(subject.answers(QUERY).scores(bright)).all()


def test_the_map_is_that_of_the_class():
    subject, _ = explained()
    assert subject.methods == ("fsc",)
    found = subject.answers(QUERY).explain(np.full((4, 4, 3), 7, np.uint8), 1)
    np.testing.assert_array_equal(found, np.full((1, 4, 4), 7.0))
