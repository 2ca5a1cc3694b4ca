"""Explanations judged: methods whose answers are known."""

from __future__ import annotations

import csv
import math
import statistics

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from egt_tf.config import EpisodeConfig
from egt_tf.data import open_source
from egt_tf.data.preprocessing import resized_side
from egt_tf.data.sampling import draw_episode
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, DataError, ExplainError
from egt_tf.evaluation.explained_model import ExplainedModel, explainer_of
from egt_tf.evaluation.explanation_measures import MEASURES, QUICK, Measure
from egt_tf.evaluation.explanation_report import table_rows, to_csv, to_json
from egt_tf.evaluation.explanations import RANDOM, ExplanationJudge, ExplanationQuality, chosen_measures
from egt_tf.evaluation.judged_queries import draw_queries
from egt_tf.explain.methods import Method, get_method
from egt_tf.explain.query import query_inputs

SIZE = 24
EPISODE = EpisodeConfig(3, 2, 1)


@pytest.fixture(scope="module")
def model():
    return EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", SIZE, seed=1)


@pytest.fixture(scope="module")
def images():
    return open_source("synthetic:sketch").split("novel")


@pytest.fixture(scope="module")
def queries(images):
    return list(draw_queries(images, EPISODE, 4, seed=0, size=SIZE))


def constant_method(name, values):
    """A method whose map of the query is given, whatever the model."""

    def maps(model, inputs, selects):
        place = model.input_names.index("query_images")
        colours = tf.constant(np.repeat(values[..., None], 3, axis=-1)[None, None] / 3, tf.float32)
        return [[colours if index == place else x for index, x in enumerate(inputs)] for _ in selects]

    return Method(name, "known", maps, distributes=False)


def test_a_map_that_is_the_mask_is_the_best_and_its_inverse_the_worst(model, queries):
    query = next(each for each in queries if 0.05 < each.mask.mean() < 0.45)
    methods = [constant_method("knows", 1.0 * query.mask), constant_method("errs", 1.0 * ~query.mask)]
    wanted = chosen_measures(["relevance_mass", "relevance_rank", "pointing_game"], has_masks=True)
    found = ExplanationJudge(ExplainedModel(model, methods), wanted, QUICK)([query])
    assert found.methods == ("knows", "errs", RANDOM)
    for measure in found.measures:
        assert found.values[measure][:2, 0].tolist() == [1.0, 0.0]


def test_the_class_is_that_which_the_model_predicts(model, queries):
    def maps(model, inputs, selects):
        place = model.input_names.index("query_images")
        found = []
        for select in selects:
            scores = model(dict(zip(model.input_names, inputs, strict=True)), training=False)
            target = tf.cast(tf.argmax(select(scores)[0, 0]), tf.float32)
            found.append([tf.zeros_like(x) + target / 3 if i == place else x for i, x in enumerate(inputs)])
        return found

    told = Measure("told", "lower", "the class that was explained", lambda judged: judged.maps.mean((1, 2)))
    found = ExplanationJudge(ExplainedModel(model, [Method("tells", "", maps, distributes=False)]), [told], QUICK)(
        queries
    )
    for query, value in zip(queries, found.values["told"][0], strict=True):
        inputs = query_inputs(model, query.support, query.image)
        scores = model(dict(zip(model.input_names, inputs, strict=True)), training=False)[0, 0].numpy()
        assert round(value) == scores.argmax()


@pytest.mark.slow
def test_everything_hangs_on_the_seed(model, queries):
    wanted = chosen_measures(["aupc", "faithfulness", "sensitivity"], has_masks=True)

    def values(seed):
        judge = ExplanationJudge(ExplainedModel(model, [get_method("gradient")]), wanted, QUICK.seeded(seed), seed)
        return judge(queries[:1]).values

    one, same, other = values(1), values(1), values(2)
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        assert (one[name] != other[name]).all(), name


def test_the_control_is_not_the_most_stable_map(model, queries):
    judge = ExplanationJudge(ExplainedModel(model, [get_method("gradient")]), [MEASURES["sensitivity"]], QUICK)
    assert judge(queries[:1]).values["sensitivity"][1, 0] > 1


def test_masks_are_cropped_as_the_images_are(images):
    (query,) = draw_queries(images, EPISODE, 1, seed=3, size=SIZE)
    drawn, _ = draw_episode(images, EPISODE, 3, 0)
    mask = images.mask(int(drawn.query[0, 0]))
    side = resized_side(SIZE)
    grey = Image.fromarray(255 * mask.astype(np.uint8))
    resized = np.asarray(grey.resize((side, side), Image.Resampling.BILINEAR)) > 127
    begin = round((side - SIZE) / 2)
    expected = resized[begin : begin + SIZE, begin : begin + SIZE]
    assert (query.mask & expected).sum() / (query.mask | expected).sum() > 0.95


def test_eager_and_compiled_maps_are_equal(model, queries):
    inputs = query_inputs(model, queries[0].support, queries[0].image)
    method = get_method({"name": "smooth_taylor", "samples": 4})
    (eager,) = method.maps(model, inputs, [lambda scores: tf.one_hot([[1]], 3)])
    compiled = explainer_of(model, method)(inputs, 1)
    np.testing.assert_allclose(
        compiled, eager[model.input_names.index("query_images")][0, 0].numpy().sum(-1), rtol=1e-3, atol=1e-6
    )


def test_means_and_intervals_leave_out_what_is_not_defined():
    values = np.array([[1.0, 2.0, np.nan, 6.0], [np.nan] * 4, [3.0, np.nan, np.nan, np.nan]])
    found = ExplanationQuality(("a", "b", "c"), ("autvc",), {"autvc": values}, None)
    np.testing.assert_allclose(found.mean("autvc"), [3.0, np.nan, 3.0])
    half = 1.96 * statistics.stdev([1.0, 2.0, 6.0]) / math.sqrt(3)
    np.testing.assert_allclose(found.interval("autvc"), [half, np.nan, np.nan])
    assert [cells for _, cells in table_rows(found)] == [f"3.000 +- {half:.3f}", "-", "3.000"]
    rows = list(csv.DictReader(to_csv(found).splitlines()))
    assert [(row["mean"], row["queries"]) for row in rows] == [("3.0", "3"), ("", "0"), ("3.0", "1")]
    assert to_json(found, {})["measures"]["autvc"]["queries"]["c"] == [3.0, None, None, None]


def test_queries_are_of_different_classes_and_seeded(images, queries):
    assert len(queries) == 4
    again = list(draw_queries(images, EPISODE, 4, seed=0, size=SIZE))
    for one, other in zip(queries, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    assert queries[0].support is queries[2].support
    assert queries[2].support is not queries[3].support
    with pytest.raises(DataError):
        list(draw_queries(images, EpisodeConfig(500, 2, 1), 4, seed=0, size=SIZE))


@pytest.mark.parametrize(
    ("names", "has_masks", "message"),
    [
        (["aucp"], True, "unknown measure 'aucp'; did you mean 'aupc'"),
        (["autvc", "autvc"], True, "each once. Received: autvc, autvc"),
        ([], True, "Received: none"),
        (["pointing_game"], False, "needs a source whose images have masks"),
    ],
)
def test_measures_that_cannot_be(names, has_masks, message):
    with pytest.raises(ConfigError, match=message):
        chosen_measures(names, has_masks)


def test_methods_must_differ(model):
    with pytest.raises(ExplainError, match="different names"):
        ExplainedModel(model, [get_method("fsc"), get_method("fsc")])
