from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import build_backbone
from egt_tf.backbones.batch_noise import BatchNoise, noise_layers
from egt_tf.backbones.noise_places import block_ends, with_noise
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from tests.helpers.quick import all_but_slow

SMALL = {"widths": [2, 3, 4, 5]}
STAGES = [f"stage{stage}_block1_relu" for stage in (1, 2, 3, 4)]
ENDS = {
    "conv4": ({"width": 3}, [f"block{block}_pool" for block in (1, 2, 3, 4)]),
    "conv4np": ({"width": 3}, ["block1_pool", "block2_pool", "block3_relu", "block4_relu"]),
    "resnet10": ({"stem": "imagenet", **SMALL}, ["stem_pool", *STAGES]),
    "resnet12": (SMALL, ["stem_relu", *STAGES]),
    "resnet18": (
        {"stem": "small", **SMALL},
        ["stem_relu", *(f"stage{stage}_block{block}_relu" for stage in (1, 2, 3, 4) for block in (1, 2))],
    ),
}


@pytest.mark.parametrize("name", all_but_slow(ENDS, {"resnet12", "resnet18"}))
def test_blocks_end_where_they_are_named_to(name):
    arguments, ends = ENDS[name]
    plain = build_backbone({"name": name, **arguments}, 32, seed=1)
    assert block_ends(plain) == ends
    noisy = build_backbone({"name": name, "noise": 0.2, **arguments}, 32, seed=1)
    layers = noise_layers(noisy)
    assert [layer.name for layer in layers] == [f"{end}_noise" for end in ends]
    assert len({layer.seed for layer in layers}) == len(layers)
    # Nothing but noise is new, and before the first step there is none.
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(noisy(x), plain(x))
    noisy(x, training=True)
    assert np.any(noisy(x) != plain(x))


def test_networks_of_other_origin():
    network = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None)
    names = block_ends(network)
    assert {"Conv1_relu", "block_2_add", "out_relu"} <= set(names)
    assert not [name for name in names if "pad" in name]


def test_models_within_have_noise_at_their_own_blocks():
    x = keras.Input((8, 8, 3))
    inner = keras.Model(x, keras.layers.Conv2D(2, 3, name="conv")(x), name="inner")
    y = keras.Input((8, 8, 3))
    outer = keras.Model(y, inner(keras.layers.Rescaling(2.0)(y)), name="outer")
    assert block_ends(outer) == []
    noisy = with_noise(outer, 0.2)
    assert [layer.name for layer in noise_layers(noisy)] == ["conv_noise"]
    assert [layer.name for layer in noisy.layers] == [layer.name for layer in outer.layers[:1]] + [
        outer.layers[1].name,
        "inner",
    ]


def test_shortcuts_operations_and_calls_in_inference_are_kept():
    x = keras.Input((8, 8, 2))
    y = keras.layers.Conv2D(2, 3, padding="same", name="first")(x / 2.0)
    z = keras.layers.Conv2D(2, 3, padding="same", name="inner")(y)
    z = keras.layers.BatchNormalization(name="frozen")(z, training=False) + y
    model = keras.Model(x, keras.layers.Conv2D(2, 1, name="last")(z))
    noisy = with_noise(model, 0.4)
    assert block_ends(model) == ["first", model.layers[-2].name, "last"]
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype(np.float32)
    np.testing.assert_allclose(noisy(images), model(images), atol=1e-6)
    before = [w.numpy() for w in noisy.get_layer("frozen").weights]
    assert np.any(noisy(images, training=True) != model(images))
    for now, then in zip(noisy.get_layer("frozen").weights, before):
        np.testing.assert_array_equal(now, then)


def test_the_noise_is_a_function_of_its_own_seed_alone():
    def seeds(**arguments):
        return [
            each.seed for each in noise_layers(build_backbone({"name": "conv4", "width": 2, **arguments}, 16, seed=4))
        ]

    assert seeds(noise=0.1) == seeds(noise={"degree": 0.3, "seed": 0})
    assert seeds(noise=0.1) != seeds(noise={"degree": 0.1, "seed": 1})
    assert [layer.momentum for layer in noise_layers(with_noise(tiny(), {"degree": 0.1, "momentum": 0.5}))] == [0.5]


def tiny() -> keras.Model:
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3)])


@pytest.mark.parametrize(
    ("noise", "received"),
    [
        (1.5, "1.5"),
        (True, "True"),
        ("much", "'much'"),
        ({"seed": 1}, "{'seed': 1}"),
        ({"degree": 0.1, "speed": 1}, "'speed': 1"),
        ({"degree": 0.1, "seed": -1}, "seed=-1"),
    ],
)
def test_what_is_refused(noise, received):
    with pytest.raises(ConfigError, match=f"Received: .*{received}"):
        build_backbone({"name": "conv4", "width": 2, "noise": noise}, 16)


def test_a_frozen_backbone_takes_no_noise():
    with pytest.raises(ConfigError, match=r"`model.backbone.noise` must be left out where `trainable` is false"):
        build_backbone({"name": "conv4", "width": 2, "noise": 0.1, "trainable": False, "neck": 3}, 16)


def test_a_graph_with_noise_can_be_written_down_and_read():
    noisy = with_noise(tiny(), 0.3)
    again = keras.Model.from_config(noisy.get_config())
    assert isinstance(again.layers[-1], BatchNoise)
    assert [w.shape for w in again.weights] == [w.shape for w in noisy.weights]
    assert again(tf.zeros((1, 4, 4, 1))).shape == (1, 2, 2, 2)
