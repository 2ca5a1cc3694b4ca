"""Which rule a layer gets."""

from __future__ import annotations

import pytest

from egt_tf.errors import ExplainError
from egt_tf.heads.layers import EpisodeBatchNormalization, MapMaxPooling2D
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, Composite, Entry
from egt_tf.lrp.layer_types import LAYER_TYPES, is_layer_type
from egt_tf.lrp.linear_rules import AlphaBeta, Epsilon
from egt_tf.lrp.rules import Derivative, Mask, Pass, ShareSum

L = keras.layers


def test_fsc_is_the_published_choice():
    fsc = COMPOSITES.get("fsc")
    assert fsc.rule_for(L.Conv2D(1, 1)) == AlphaBeta(1.0, 0.0, bias=False)
    assert fsc.rule_for(L.Dense(1)) == Epsilon(0.01, bias=False)
    assert fsc.rule_for(L.BatchNormalization()) == fsc.rule_for(EpisodeBatchNormalization()) == Pass()
    assert fsc.rule_for(L.Activation("relu")) == fsc.rule_for(L.ReLU()) == Mask()
    assert fsc.rule_for(L.Add()) == ShareSum(0.01)


def test_the_first_fitting_entry_wins_and_users_go_first():
    composite = Composite([Entry(Epsilon(0.1), layer="last"), Entry(Epsilon(0.2), layer_type="dense")])
    assert composite.rule_for(L.Dense(1, name="last")) == Epsilon(0.1)
    assert composite.rule_for(L.Dense(1)) == Epsilon(0.2)
    prepended = composite.prepend(Entry(Pass(), layer_type="dense"))
    assert prepended.rule_for(L.Dense(1, name="last")) == Pass()
    assert composite.rule_for(L.Dense(1)) == Epsilon(0.2)


@pytest.mark.parametrize("arguments", [{}, {"layer_type": "dense", "layer": "last"}, {"layer_type": "denes"}])
def test_entries_are_checked(arguments):
    with pytest.raises(ExplainError):
        Entry(Pass(), **arguments)


def test_entries_written_when_layer_types_were_kinds_are_read():
    written = {"rule": {"name": "route"}, "kind": "max_pool", "layer": None, "first": False}
    (entry,) = Composite.from_json({"name": "old", "entries": [written]}).entries
    assert entry == Entry(Derivative(), layer_type="max_pool")
    assert entry.to_json()["rule"] == {"name": "derivative"}


@pytest.mark.parametrize(
    ("layer", "layer_type"),
    [
        (L.Activation("relu"), "relu"),
        (L.ReLU(), "relu"),
        (MapMaxPooling2D(2), "max_pool"),
        (L.Flatten(), "route"),
        (L.GlobalAveragePooling2D(), "mean"),
        (L.Conv2D(1, 1), "convolution"),
        (L.Dense(1), "dense"),
    ],
)
def test_layer_types(layer, layer_type):
    assert is_layer_type(layer, layer_type)
    assert layer_type in LAYER_TYPES


@pytest.mark.parametrize("layer", [L.ReLU(negative_slope=0.1), L.LeakyReLU(), L.Activation("tanh")])
def test_leaky_and_other_activations_are_no_relu(layer):
    assert not is_layer_type(layer, "relu")
    assert is_layer_type(layer, "activation")
