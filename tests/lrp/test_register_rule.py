"""Rules for layers of one's own."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, Composite, Entry, LinearPart, linear_parts, record, register_rule, reverse
from egt_tf.lrp.composites import registered_rule
from egt_tf.lrp.linear_rules import Epsilon
from egt_tf.lrp.plain_operations import with_plain_operations
from egt_tf.lrp.rules import Derivative, Pass, Rule, Share

L = keras.layers


def _relevance(layer, composite, x, r):
    inputs = keras.Input(x.shape[1:])
    trace = record(keras.Model(inputs, layer(inputs)), [tf.constant(x)])
    return reverse(trace, tf.constant(r), COMPOSITES.get(composite))[0].numpy()


def _docstring_example():
    """What the names of the docstring's example stand for once it ran; it must run without a complaint."""
    names = {"keras": keras, "tf": tf, "register_rule": register_rule, "registered_rule": registered_rule}
    example = doctest.DocTestParser().get_doctest(register_rule.__doc__, names, "register_rule", None, None)
    assert len(example.examples) == 6
    said = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=said.append, clear_globs=False)
    assert result.failed == 0, "".join(said)
    return example.globs


def test_the_example_of_the_docstring_works():
    layer = _docstring_example()["SwapHalves"]()
    x = np.arange(1.0, 9.0, dtype=np.float32).reshape(2, 4)
    r = x * 10
    for composite in COMPOSITES.names():
        np.testing.assert_array_equal(_relevance(layer, composite, x, r), r[:, [2, 3, 0, 1]])


def test_the_example_works_inside_a_model():
    swap = _docstring_example()["SwapHalves"]()
    inputs = keras.Input((5, 5, 4))
    x = L.Activation("relu")(L.Conv2D(4, 3)(swap(inputs)))
    swapped = keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))
    plain = keras.Sequential([keras.Input((5, 5, 4)), *swapped.layers[2:]])
    images = np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype(np.float32)
    halves = [2, 3, 0, 1]
    expected = LRP(plain, "fsc").analyze(images[..., halves])[..., halves]
    assert np.any(expected)
    np.testing.assert_allclose(LRP(swapped, "fsc").analyze(images), expected, rtol=1e-5, atol=1e-7)


class _Scale(L.Layer):
    def call(self, x):
        return 2.0 * x


def test_subclasses_get_the_rule_of_their_nearest_base():
    class Parent(_Scale):
        pass

    class Child(Parent):
        pass

    class Stranger(_Scale):
        pass

    register_rule(Parent, Share())
    fsc = COMPOSITES.get("fsc")
    assert fsc.rule_for(Child()) == registered_rule(Parent(), "zennit") == Share()
    register_rule(Child, Pass())
    assert fsc.rule_for(Child()) == Pass()
    assert fsc.rule_for(Parent()) == Share()
    assert registered_rule(Stranger(), "zennit") is None
    register_rule(Parent, Derivative())
    assert fsc.rule_for(Parent()) == Derivative()


def test_entries_of_a_composite_come_first():
    class Known(L.Flatten):
        pass

    class Own(_Scale):
        pass

    register_rule(Known, Pass())
    register_rule(Own, Pass())
    fsc = COMPOSITES.get("fsc")
    assert fsc.rule_for(Known()) == Derivative()
    assert fsc.rule_for(Own(name="mine")) == Pass()
    mine = fsc.prepend(Entry(Share(), layer="mine"))
    assert mine.rule_for(Own(name="mine")) == Share()
    assert mine.rule_for(Own(name="other")) == Pass()
    x, r = np.ones((1, 2), np.float32), np.array([[3.0, -1.0]], np.float32)
    derivative = mine.prepend(Entry(Derivative(), layer="mine"))
    np.testing.assert_allclose(_relevance(Own(name="mine"), derivative, x, r), 2 * r)


def test_a_layer_nobody_knows_is_named_with_the_way_out():
    class Unheard(_Scale):
        pass

    x = np.ones((1, 2), np.float32)
    for name in ("fsc", "epsilon_plus", "lrp.z"):
        with pytest.raises(ExplainError) as raised:
            _relevance(Unheard(name="odd_one"), name, x, x)
        for part in (
            f"composite {name!r}",
            "layer 'odd_one'",
            "class Unheard",
            "egt_tf.lrp.register_rule(Unheard, rule)",
            "Entry(rule, layer='odd_one')",
        ):
            assert part in str(raised.value)
    # Both ways out lead out.
    np.testing.assert_array_equal(
        _relevance(Unheard(name="odd_one"), COMPOSITES.get("fsc").prepend(Entry(Pass(), layer="odd_one")), x, x), x
    )
    register_rule(Unheard, Pass())
    np.testing.assert_array_equal(_relevance(Unheard(name="odd_one"), "fsc", x, x), x)


CONVENTIONAL = {"published": "fsc", "zennit": "epsilon", "innvestigate": "lrp.z"}


def test_a_rule_for_a_convention_comes_before_one_for_all():
    class Parent(_Scale):
        pass

    class Child(Parent):
        pass

    register_rule(Parent, Share(0.1), convention="published")
    composites = {convention: COMPOSITES.get(name) for convention, name in CONVENTIONAL.items()}
    assert composites["published"].rule_for(Child()) == Share(0.1)
    with pytest.raises(ExplainError, match="composite 'epsilon' fits layer 'child"):
        composites["zennit"].rule_for(Child())
    register_rule(Parent, Pass())
    assert {name: composite.rule_for(Parent()) for name, composite in composites.items()} == {
        "published": Share(0.1),
        "zennit": Pass(),
        "innvestigate": Pass(),
    }
    # The nearest class decides first.
    register_rule(Child, Derivative())
    assert all(composite.rule_for(Child()) == Derivative() for composite in composites.values())


def test_a_composite_keeps_its_convention():
    for convention, name in CONVENTIONAL.items():
        composite = COMPOSITES.get(name).prepend(Entry(Pass(), layer="mine"))
        for same in (composite, with_plain_operations(composite), Composite.from_json(composite.to_json())):
            assert same.convention == convention
    assert Composite([]).convention == "zennit"
    with pytest.raises(ExplainError, match=r"`convention` must be one of published.*Received: convention='zenit'"):
        Composite([], convention="zenit")


def test_a_layer_that_is_like_another_is_treated_as_that():
    class Halves(_Scale):
        pass

    class Quarters(Halves):
        pass

    inputs = keras.Input((2, 2, 1))

    def known(layer):
        """Whether a layer behind it still sees the input, and whether its values are known to be >= 0."""
        model = keras.Model(inputs, L.Activation("tanh")(layer(inputs)))
        call = record(model, [tf.ones((1, 2, 2, 1))], nonnegative=True).calls[-1]
        return call.first, call.state.nonnegative

    assert known(Quarters()) == (False, (False,))
    register_rule(Halves, like="route")
    assert known(Quarters()) == (True, (True,))
    for name in COMPOSITES.names():
        assert COMPOSITES.get(name).rule_for(Quarters()) == Derivative()
    # A class of its own may be like something else.
    register_rule(Quarters, like="mean")
    assert known(Quarters()) == (False, (True,))
    assert COMPOSITES.get("epsilon").rule_for(Quarters()) == COMPOSITES.get("epsilon").rule_for(L.Average())
    assert COMPOSITES.get("epsilon").rule_for(Halves()) == Derivative()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either `rule` or `like` must be given"),
        ({"rule": Pass(), "like": "route"}, "either `rule` or `like` must be given"),
        ({"like": "rout"}, "`like` must be one of dense, .* Received: like='rout'"),
        ({"like": "route", "convention": "zennit"}, "a layer is like another in every convention"),
        ({"rule": Pass(), "convention": "lrp"}, "`convention` must be one of published, zennit, innvestigate"),
    ],
)
def test_what_is_registered_is_checked(arguments, message):
    with pytest.raises(ExplainError, match=message):
        register_rule(_Scale, **arguments)


class _Mixing(L.Layer):
    """A weighted sum of rows, which no layer type knows."""

    def build(self, shape):
        self.mixing = self.add_weight("mixing", (shape[1], shape[1]))

    def call(self, x):
        return tf.einsum("nic,ij->njc", x, self.mixing)


def test_a_layer_with_weights_is_taught_its_weighted_sum():
    class Mixing(_Mixing):
        pass

    register_rule(Mixing, Epsilon(0.1))
    x, r = (np.random.default_rng(seed).normal(size=(2, 3, 4)).astype(np.float32) for seed in (1, 2))
    layer = Mixing(name="mixing")
    with pytest.raises(ExplainError, match=r"'mixing' of class Mixing.*linear_parts.register"):
        _relevance(layer, "fsc", x, r)

    @linear_parts.register(Mixing)
    def _(layer, x):
        mixing = tf.convert_to_tensor(layer.mixing)
        return (LinearPart(mixing, None, lambda x, kernel: tf.einsum("nic,ij->njc", x, kernel)),)

    dense = L.Dense(3, use_bias=False)
    dense.build((None, 4, 3))
    dense.set_weights(layer.get_weights())
    expected = _relevance(
        dense, Composite([Entry(Epsilon(0.1), layer_type="dense")]), *(a.swapaxes(1, 2) for a in (x, r))
    )
    np.testing.assert_allclose(_relevance(layer, "fsc", x, r), expected.swapaxes(1, 2), rtol=1e-5, atol=1e-6)


def test_a_rule_of_ones_own():
    class Doubling(_Scale):
        pass

    class Half(Rule):
        """Half of the relevance is lost."""

        def __init__(self, share: float = 0.5):
            self.share = share

        def apply(self, Xs, Ys, Rs, reverse_state):
            return [self.share * Rs[0]]

    register_rule(Doubling, Half())
    x = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(_relevance(Doubling(), "epsilon", x, x), 0.5 * x)
    assert Half() == Half(0.5) != Half(0.25)
    assert repr(Half()) == "Half(share=0.5)"
