"""Rules for heads that compare pooled maps, one by one and from the scores of whole models down to their pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.explain.methods import get_method
from egt_tf.explain.query import explain_image, query_inputs, relevance_of_query
from egt_tf.heads import HEADS
from egt_tf.heads.attention import AttendedPrototypeMean, AttendedQuery
from egt_tf.heads.lrp_rules import AttendedFraction, AttentionGate, Fraction, ShareProduct
from egt_tf.heads.similarity import AxisMean, AxisSum, PairProduct, Scale, Square
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, Composite, Entry, record, reverse
from egt_tf.lrp.output_relevance import log_odds
from egt_tf.lrp.rules import RULES, LayerState, Pass, Rule, Share
from tests.heads.feature_episodes import episodes
from tests.helpers.quick import all_but_slow, quick_ones
from tests.helpers.random_images import random_image, random_support

HEAD_NAMES = ("cross_attention", "prototype", "cosine", "ridge")


def apply(rule, layer, xs, relevance) -> list:
    """The rule's answer in float64; None stays None."""
    xs = [tf.constant(x, tf.float64) for x in xs]
    y = layer(xs[0] if len(xs) == 1 else xs)
    state = LayerState(layer, lambda inputs: [layer(inputs)], (False,) * len(xs))
    result = rule.apply(xs, [y], [tf.constant(relevance, tf.float64)], state)
    return [r if r is None else r.numpy() for r in result]


# === rules one by one ===


def fraction(x: np.ndarray, relevance: float, epsilon: float) -> np.ndarray:
    """Of one group of summands, value by value."""
    total = sum(float(v) for v in x.ravel())
    if total == 0:
        total = 1 / x.size
    denominator = total + (epsilon if total >= 0 else -epsilon)
    return np.array([relevance * float(v) / denominator for v in x.ravel()]).reshape(x.shape)


@pytest.mark.parametrize("epsilon", [0.01, 1e-6, 0.0])
@pytest.mark.parametrize("kind", [AxisMean, AxisSum])
def test_fraction(float64, kind, epsilon):
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 5))
    x[0, :, 0] = [1, -1, 2, -2]
    x[1, :, 1] = 0
    (got,) = apply(Fraction(epsilon), kind(-2), [x], r)
    for i in range(3):
        for k in range(5):
            np.testing.assert_allclose(got[i, :, k], fraction(x[i, :, k], r[i, k], epsilon), rtol=1e-9, atol=1e-12)


def test_fraction_over_several_axes(float64):
    rng = np.random.default_rng(1)
    x, r = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 5))
    (got,) = apply(Fraction(), AxisMean((1, 2)), [x], r)
    for i in range(2):
        for k in range(5):
            np.testing.assert_allclose(got[i, :, :, k], fraction(x[i, :, :, k], r[i, k], 0.01), rtol=1e-9)


def test_fraction_of_a_mean_stabilises_the_sum(float64):
    x, r = np.full((1, 4), 0.01), np.ones((1,))
    for kind in (AxisMean, AxisSum):
        np.testing.assert_allclose(apply(Fraction(), kind(-1), [x], r)[0], np.full((1, 4), 0.01 / 0.05), rtol=1e-9)


def test_attended_fraction(float64):
    rng = np.random.default_rng(2)
    prototypes, attention = rng.normal(size=(2, 3, 2, 2, 4)), rng.uniform(1, 2, size=(2, 5, 3, 2, 2, 1))
    r = rng.normal(size=(2, 5, 3, 4))
    got, of_attention = apply(AttendedFraction(0.01), AttendedPrototypeMean(), [prototypes, attention], r)
    assert of_attention is None
    expected = np.zeros_like(prototypes)
    for e, j, k, c in np.ndindex(r.shape):
        summands = prototypes[e, k, :, :, c] * attention[e, j, k, :, :, 0]
        expected[e, k, :, :, c] += fraction(summands, r[e, j, k, c], 0.01)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_attention_is_a_gate(float64):
    rng = np.random.default_rng(3)
    queries, attention = rng.normal(size=(2, 5, 2, 2, 4)), rng.uniform(1, 2, size=(2, 5, 3, 2, 2, 1))
    r = rng.normal(size=(2, 5, 3, 2, 2, 4))
    got, of_attention = apply(AttentionGate(), AttendedQuery(), [queries, attention], r)
    assert of_attention is None
    np.testing.assert_allclose(got, r.sum(2))


@pytest.mark.parametrize("normalize", [False, True])
def test_products(float64, normalize):
    x, y, r = (np.random.default_rng(seed).normal(size=(2, 3, 4)) for seed in range(3))
    assert ShareProduct() == ShareProduct(0.5, 0.5)
    for parts in ((0.5, 0.5), (1.0, 1.0), (0.2, 0.8)):
        for got, part in zip(apply(ShareProduct(*parts), PairProduct(normalize), [x, y], r), parts, strict=True):
            np.testing.assert_allclose(got, part * r)


@pytest.mark.parametrize(
    "rule", [Fraction(), Fraction(0.0), AttendedFraction(0.5), AttentionGate(), ShareProduct(1.0, 0.0)], ids=repr
)
def test_rules_survive_being_written_down(rule):
    again = RULES.get(json.loads(json.dumps(rule.to_json())))
    assert again == rule
    assert hash(again) == hash(rule)


@pytest.mark.parametrize("rule", [Fraction, AttendedFraction])
def test_negative_stabilisers_are_refused(rule):
    with pytest.raises(ExplainError, match=r"`epsilon` must be >= 0. Received: epsilon=-0.1"):
        rule(-0.1)


@pytest.mark.parametrize(
    ("name", "epsilon", "parts"),
    [
        ("fsc", 0.01, (1.0, 1.0)),
        ("fsc_gamma", 0.01, (1.0, 1.0)),
        ("fsc_can", 0.01, (1.0, 1.0)),
        ("epsilon", 1e-6, (0.5, 0.5)),
        ("epsilon_plus", 1e-6, (0.5, 0.5)),
        ("epsilon_gamma_box", 1e-6, (0.5, 0.5)),
        ("lrp.z", 0.0, (0.5, 0.5)),
        ("lrp.sequential_preset_a", 0.0, (0.5, 0.5)),
    ],
)
def test_which_rule_a_layer_gets(name, epsilon, parts):
    layers = {
        AxisMean(-1): Fraction(epsilon),
        AxisSum(-1): Fraction(epsilon),
        PairProduct(): ShareProduct(*parts),
        Scale(2.0): Pass(),
        Square(): Pass(),
        AttendedQuery(): AttentionGate(),
        AttendedPrototypeMean(): AttendedFraction(epsilon),
    }
    composite = COMPOSITES.get(name)
    assert [composite.rule_for(layer) for layer in layers] == list(layers.values())


# === whole heads ===


def whole_head(name: str, shape=(4, 4, 5)):
    """A head as one model from features to scores."""
    head = HEADS.get(name, feature_shape=shape, seed=1)
    inputs = [keras.Input(x.shape[1:]) for x in head.relate_model.inputs]
    return head, keras.Model(inputs, head.score_model(head.relate_model(inputs)))


def explained(name: str, composite: Composite, inputs):
    """Start relevance, and that of support and query features."""
    head, model = whole_head(name)
    trace = record(model, [tf.constant(np.asarray(x, np.float64)) for x in inputs], raw=False)
    start = log_odds(head.probabilities(trace.outputs[0]))
    support, _, query = reverse(trace, start, composite)
    return start.numpy(), support.numpy(), query.numpy()


def entries_by_class(name: str, rules: dict[type, Rule]) -> list[Entry]:
    """An entry for every layer of the head that is of a class among `rules`."""
    head, _ = whole_head(name)
    layers = [*head.relate_model.layers, *head.score_model.layers]
    return [Entry(rules[type(layer)], layer=layer.name) for layer in layers if type(layer) in rules]


def conserving(name: str, epsilon: float = 1e-9) -> Composite:
    rules = {AxisMean: Fraction(epsilon), AxisSum: Fraction(epsilon), AttendedPrototypeMean: AttendedFraction(epsilon)}
    entries = entries_by_class(name, rules)
    return COMPOSITES.get("epsilon").prepend(*entries, Entry(Share(epsilon), layer_type="mean"))


@pytest.mark.parametrize("name", HEAD_NAMES)
def test_relevance_is_conserved_from_the_scores_to_query_and_support(float64, name):
    start, support, query = explained(name, conserving(name), episodes())
    for e in range(2):
        assert support[e].sum() + query[e].sum() == pytest.approx(start[e].sum(), rel=0.01)


@pytest.mark.parametrize(
    "composite", quick_ones(["epsilon", "epsilon_plus", "lrp.epsilon", "lrp.alpha_1_beta_0"], {"epsilon_plus"})
)
@pytest.mark.parametrize("name", HEAD_NAMES)
def test_named_composites_conserve_it_too(float64, name, composite):
    start, support, query = explained(name, COMPOSITES.get(composite), episodes())
    assert support.sum() + query.sum() == pytest.approx(start.sum(), rel=0.01)


@pytest.mark.parametrize("name", all_but_slow(["cross_attention", "cosine"], {"cosine"}))
def test_the_published_composites_hand_the_whole_to_either_side(float64, name):
    start, support, query = explained(name, COMPOSITES.get("fsc"), episodes())
    small = conserving(name).prepend(*entries_by_class(name, {PairProduct: ShareProduct(1.0, 1.0)}))
    for side in explained(name, small, episodes())[1:]:
        assert side.sum() == pytest.approx(start.sum(), rel=0.01)
    # Their stabiliser keeps a little.
    for side in (support, query):
        assert np.abs(side.sum() - start.sum()) < 0.2 * np.abs(start).sum()


def test_relevance_of_cross_attention_down_to_the_features(float64):
    """Scores to features by the published formulas, value by value."""
    shape, inputs = (4, 4, 5), [x[:1].astype(np.float64) for x in episodes(shots=1)]
    start, support, query = explained("cross_attention", COMPOSITES.get("fsc_can"), inputs)
    head, _ = whole_head("cross_attention", shape)
    layers = [head.relate_model.get_layer(f"{side}_attention").output for side in ("support", "query")]
    of_support, of_query = (np.asarray(x) for x in keras.Model(head.relate_model.inputs, layers)(inputs))
    classes = inputs[1][0].argmax(-1)
    expected_support, expected_query = np.zeros(support.shape), np.zeros(query.shape)
    for j, k in np.ndindex(4, 3):
        image = int(np.flatnonzero(classes == k)[0])
        attended = inputs[2][0, j] * of_query[0, j, k]
        prototype = inputs[0][0, image] * of_support[0, j, k]
        q, t = attended.mean((0, 1)), prototype.mean((0, 1))
        product = q * t / np.linalg.norm(q) / np.linalg.norm(t)
        channel = fraction(product, start[0, j, k], 0.01)
        for c in range(5):
            rows = attended[:, :, c].mean(1)
            for h, r in enumerate(fraction(rows, channel[c], 0.01)):
                expected_query[0, j, h, :, c] += fraction(attended[h, :, c], r, 0.01)
            expected_support[0, image, :, :, c] += fraction(prototype[:, :, c], channel[c], 0.01)
    np.testing.assert_allclose(query, expected_query, rtol=1e-6, atol=1e-9)
    # One shot: the mean of one image, whose exact zeros are guarded.
    np.testing.assert_allclose(support, expected_support, rtol=1e-6, atol=1e-9)


def test_attention_itself_is_not_walked(float64):
    _, model = whole_head("cross_attention")
    trace = record(model, [tf.constant(np.asarray(x, np.float64)) for x in episodes()], raw=False)
    # Without rules for anything that leads to the attention.
    composite = Composite(
        [
            entry
            for entry in COMPOSITES.get("fsc_can").entries
            if entry.layer_type not in ("convolution", "dense", "batch_norm", "relu", "activation", "add")
        ]
    )
    wanted = [trace.output_of(name) for name in ("cosines", "support_attention", "query_attention", "prototypes")]
    *attention, prototypes = reverse(trace, trace.outputs[0], composite, wanted)
    assert not any(np.any(r) for r in attention)
    assert np.any(prototypes)


# === whole models ===


@pytest.fixture(scope="module", params=HEAD_NAMES)
def model(request):
    return EpisodicModel.build_from({"name": "conv4", "width": 8}, request.param, 32, seed=2)


@pytest.fixture(scope="module")
def support():
    return random_support()


@pytest.fixture(scope="module")
def image():
    return random_image()


@pytest.mark.parametrize(
    "method",
    quick_ones(
        ["fsc", "fsc_can", "epsilon_plus", "lrp.sequential_preset_a", "gradient", "guided_backprop", "smoothgrad"],
        {"fsc", "gradient"},
    ),
)
def test_pixels_of_query_and_support(model, support, image, method):
    explanation = explain_image(model, support, image, target="bee", method=method)
    assert explanation.explained[0] == 1
    assert explanation.query_relevance.shape == (2, 32, 32)
    assert explanation.support_relevance.shape == (2, 3, 2, 32, 32)
    for maps in (explanation.query_relevance, explanation.support_relevance):
        assert np.isfinite(maps).all()
    assert np.any(explanation.query_relevance[0])
    assert np.abs(explanation.support_relevance[0, 1]).max((1, 2)).all()


def test_relevance_of_a_class_reaches_its_own_support_images_alone(model, support, image):
    result = relevance_of_query(model, support, query_inputs(model, support, image), [0, 2], get_method("fsc"))
    for row, other in ((0, [1, 2]), (1, [0, 1])):
        assert np.any(result.query[row])
        # The class's vector of ridge regression has the images of the others in it, most of them with a minus.
        assert np.any(result.support[row, other]) == (model.head.name == "ridge")
    assert np.any(result.support[0, 0])
    assert np.any(result.support[1, 2])
