from __future__ import annotations

import numpy as np
import pytest

from egt_tf.backbones import BACKBONES, build_backbone
from egt_tf.backbones.base import is_frozen, without_pretrained
from egt_tf.backbones.neck import behind_embedding, embedding_of, has_neck
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.lrp import LRP, fold_batch_norm
from egt_tf.weights import assign_backbone, named_weights, weight_arrays
from tests.layer_harness import close

SIZE = 32
CONV4 = {"name": "conv4", "width": 4}
FROZEN = {**CONV4, "trainable": False, "neck": 6}


def images(count=3, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, SIZE, SIZE, 3)).astype(np.float32)


def disturbed(model: keras.Model) -> keras.Model:
    """Statistics and offsets as after a training, so that no part is the identity."""
    rng = np.random.default_rng(5)
    model.set_weights([w + rng.uniform(0.1, 0.5, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def flat(backbone: keras.Model) -> keras.Model:
    """The same layers without a model in the model."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = inputs
    for layer in [*embedding_of(backbone).layers[1:], *backbone.layers[2:]]:
        x = type(layer).from_config(layer.get_config())(x)
    copy = keras.Model(inputs, x)
    for layer, own in zip(copy.layers[1:], [*embedding_of(backbone).layers[1:], *backbone.layers[2:]], strict=True):
        layer.set_weights(own.get_weights())
    return copy


def test_without_arguments_of_its_own_it_is_the_registered_backbone():
    found, expected = build_backbone(CONV4, SIZE, 3), BACKBONES.get(CONV4, image_size=SIZE, seed=3)
    close(found.get_weights(), expected.get_weights())
    assert found.trainable
    assert not has_neck(found)


def test_the_neck_is_convolution_normalisation_and_relu():
    backbone = disturbed(build_backbone(FROZEN, SIZE, 0))
    convolution, norm, _ = backbone.layers[2:]
    maps = embedding_of(backbone)(images()).numpy()
    gamma, beta, mean, variance = (w.numpy() for w in norm.weights)
    expected = (maps @ convolution.kernel.numpy()[0, 0] - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(backbone(images()), np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


def test_a_frozen_embedding_stays_and_runs_as_in_inference():
    backbone = disturbed(build_backbone(FROZEN, SIZE, 0))
    before = [w.copy() for w in embedding_of(backbone).get_weights()]
    expected = behind_embedding(backbone, nonnegative=False)(
        embedding_of(backbone)(images(), training=False), training=True
    )
    np.testing.assert_allclose(backbone(images(), training=True), expected, rtol=1e-5)
    assert [w.name for w in backbone.trainable_weights] == ["neck_conv/kernel:0", "neck_bn/gamma:0", "neck_bn/beta:0"]
    close(embedding_of(backbone).get_weights(), before)


def test_what_is_behind_the_embedding_shares_the_neck():
    backbone = disturbed(build_backbone(FROZEN, SIZE, 0))
    maps = embedding_of(backbone)(images())
    for nonnegative in (False, True):
        close(behind_embedding(backbone, nonnegative)(maps), backbone(images()))
    behind = behind_embedding(backbone, True)
    assert [id(w) for w in behind.weights] == [id(w) for layer in backbone.layers[2:] for w in layer.weights]
    bare = build_backbone({**CONV4, "trainable": False}, SIZE, 0)
    close(behind_embedding(bare, True)(maps), maps)


@pytest.mark.parametrize(
    "spec", [FROZEN, {**CONV4, "neck": 6}, pytest.param({**CONV4, "trainable": False}, marks=pytest.mark.slow)]
)
def test_configuration_names_folding_and_weights(spec):
    model = EpisodicModel.build_from(spec, "relation", SIZE, seed=1)
    disturbed(model.backbone)
    copy = EpisodicModel.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    assert [w.shape for w in copy.trainable_weights] == [w.shape for w in model.trainable_weights]
    assert list(named_weights(copy)) == list(named_weights(model))
    # As many names as weights: none stands for two.
    assert len(named_weights(model)) == len(model.weights)
    close(copy.backbone(images()), model.backbone(images()))
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(folded.backbone(images()), model.backbone(images()), rtol=1e-4, atol=1e-5)
    assert not [m for m in folded.backbone.submodules if isinstance(m, keras.layers.BatchNormalization)]


@pytest.mark.parametrize("composite", [pytest.param("epsilon_plus", marks=pytest.mark.slow), "epsilon_gamma_box"])
def test_relevance_passes_the_model_within_the_model(composite):
    backbone = disturbed(build_backbone(FROZEN, SIZE, 0))
    nested, expected = (
        LRP(keras.Model(m.inputs, keras.layers.GlobalAveragePooling2D()(m.outputs[0])), composite).analyze(images())
        for m in (backbone, flat(backbone))
    )
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(nested, expected, rtol=1e-4, atol=1e-7)


def test_a_backbone_without_a_neck_starts_the_embedding_of_one_with_a_neck():
    source = EpisodicModel.build_from(CONV4, "prototype", SIZE, seed=1)
    target = EpisodicModel.build_from(FROZEN, "prototype", SIZE, seed=2)
    neck = [w.numpy() for w in target.backbone.layers[2].weights]
    assign_backbone(target, weight_arrays(source), "a pre-training")
    close(embedding_of(target.backbone).get_weights(), source.backbone.get_weights())
    close([w.numpy() for w in target.backbone.layers[2].weights], neck)
    # From one with a neck, the neck too.
    third = EpisodicModel.build_from(FROZEN, "prototype", SIZE, seed=3)
    assign_backbone(third, weight_arrays(target), "a run")
    close(third.backbone.get_weights(), target.backbone.get_weights())


def test_seeds():
    first, same, other = (build_backbone(FROZEN, SIZE, seed).layers[2].get_weights()[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)


def test_published_weights_are_left_out_where_there_are_some():
    assert without_pretrained({"name": "efficientnet_lite0", "output": 16, "weights": "imagenet"}) == {
        "name": "efficientnet_lite0",
        "output": 16,
        "weights": "none",
    }
    assert without_pretrained({"name": "applications:MobileNetV2"})["weights"] == "none"
    assert without_pretrained(FROZEN) == FROZEN


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"neck": 0}, "`model.backbone.neck` must be an integer >= 1"),
        ({"neck": True}, "`model.backbone.neck` must be an integer >= 1"),
        ({"trainable": "no"}, "`model.backbone.trainable` must be true or false"),
        ({"trainable": False, "feature_transformation": True}, "must be left out where `trainable` is false"),
        ({"nekc": 4}, "takes no argument 'nekc'"),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        build_backbone({**CONV4, **arguments}, SIZE, 0)


def test_is_frozen():
    assert is_frozen(FROZEN)
    assert not is_frozen(CONV4)
    assert not is_frozen("conv4")
