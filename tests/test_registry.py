from __future__ import annotations

import inspect

import pytest
import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.registry import Registry, serializable


@pytest.fixture
def table() -> Registry:
    table = Registry("tool")

    @table.register("saw")
    def saw(teeth, length=10):
        return ("saw", teeth, length)

    @table.register("axe")
    def axe():
        return "axe"

    return table


def test_names_are_sorted(table):
    assert table.names() == ("axe", "saw")


def test_get_by_name_mapping_and_instance(table):
    assert table.get("axe") == "axe"
    assert table.get("saw", teeth=3) == ("saw", 3, 10)
    assert table.get({"name": "saw", "teeth": 3, "length": 5}) == ("saw", 3, 5)
    instance = object()
    assert table.get(instance) is instance


def test_the_mapping_wins_over_defaults_and_is_left_alone(table):
    mapping = {"name": "saw", "teeth": 3}
    assert table.get(mapping, teeth=4, length=6) == ("saw", 3, 6)
    assert mapping == {"name": "saw", "teeth": 3}


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("sow", r"^unknown tool 'sow'; did you mean 'saw'\? Known: axe, saw$"),
        ("hammer", r"^unknown tool 'hammer'\. Known: axe, saw$"),
        ({"teeth": 3}, "unknown tool None"),
        ({"name": ["saw"], "teeth": 3}, r"unknown tool \['saw'\]"),
        (
            {"name": "saw", "tooth": 3},
            r"^tool 'saw' takes no argument 'tooth'; did you mean 'teeth'\? Known: teeth, length$",
        ),
        ({"name": "axe", "zzz": 1}, r"^tool 'axe' takes no argument 'zzz'\. "),
    ],
)
def test_what_is_unknown_is_named(table, identifier, message):
    with pytest.raises(ConfigError, match=message):
        table.get(identifier)


def test_an_argument_for_kwargs_is_no_argument(table):
    @table.register("file")
    def file(grain, **kwargs):
        return grain

    with pytest.raises(ConfigError, match="takes no argument 'kwargs'"):
        table.get({"name": "file", "grain": 1, "kwargs": 2})


def test_a_name_is_taken_once(table):
    with pytest.raises(ConfigError, match=r"a tool name must be registered once. Received: 'axe'"):
        table.register("axe")(lambda: None)
    assert table.get("axe") == "axe"


def test_registered_layers_can_be_loaded_by_keras():
    table = Registry("layer")

    @table.register("doubling")
    class Doubling(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    assert isinstance(table.get("doubling"), Doubling)
    assert keras.saving.get_registered_name(Doubling) == "egt_tf>Doubling"
    assert isinstance(keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(Doubling())), Doubling)


def test_the_instance_registered_is_handed_back_unchanged():
    table = Registry("tool")

    def nail():
        return 1

    assert table.register("nail")(nail) is nail


def test_layers_of_the_package_run_in_graphs_as_they_stand():
    ran = []

    class Seen(keras.layers.Layer):
        def call(self, inputs, training=None):
            ran.append(inspect.currentframe().f_code)
            return inputs

    @serializable
    class AsItStands(Seen):
        def call(self, inputs, training=None):
            ran.append(inspect.currentframe().f_code)
            return inputs

    for layer in (Seen(), AsItStands()):
        tf.function(layer)(tf.ones(1))
        keras.Model(x := keras.Input((2,)), layer(x))
    # Another's is converted by AutoGraph, which runs a copy.
    assert [code is member.call.__code__ for code, member in zip(ran, (Seen, Seen, AsItStands, AsItStands))] == [
        False,
        False,
        True,
        True,
    ]
