from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel, JoinEpisodes, SplitEpisodes
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from tests.layer_harness import check_layer, close

SIZE = 32


def build(seed: int | None = 0, **head) -> EpisodicModel:
    return EpisodicModel.build_from({"name": "conv4", "width": 4}, {"name": "relation", **head}, SIZE, seed=seed)


def inputs(count=1, ways=3, shots=2, queries=4, seed=0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.eye(ways, dtype=np.float32)[np.repeat(np.arange(ways), shots)]
    return {
        "support_images": rng.normal(size=(count, ways * shots, SIZE, SIZE, 3)).astype(np.float32),
        "support_labels": np.tile(labels, (count, 1, 1)),
        "query_images": rng.normal(size=(count, queries, SIZE, SIZE, 3)).astype(np.float32),
    }


# === layers ===


def test_join_layer(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, n, 4, 5, 3)).astype(np.float32) for n in (3, 6)]
    check_layer(JoinEpisodes, arrays, [[1], [1]], tmp_path, differentiable=(0, 1))


def test_split_layer(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2 * (3 + 6), 2, 2, 7)).astype(np.float32)
    arrays = [features, *(rng.normal(size=(2, n, 4, 4, 3)).astype(np.float32) for n in (3, 6))]
    check_layer(SplitEpisodes, arrays, [[], [1], [1]], tmp_path)


def test_join_is_episode_by_episode_with_the_support_first_and_split_undoes_it():
    support, query = np.arange(6.0).reshape(2, 3, 1), 10 + np.arange(8.0).reshape(2, 4, 1)
    joined = JoinEpisodes()([support, query])
    np.testing.assert_array_equal(joined[:, 0], [0, 1, 2, 10, 11, 12, 13, 3, 4, 5, 14, 15, 16, 17])
    close(SplitEpisodes()([joined, support, query]), [support, query])


# === calls ===


def test_inputs_go_by_name():
    model, x = build(), inputs()
    expected = model(x)
    assert expected.shape == (1, 4, 3)
    np.testing.assert_array_equal(model(dict(reversed(x.items()))), expected)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize(("ways", "shots", "queries"), [(2, 1, 1), (5, 1, 3), (3, 4, 7)])
def test_ways_shots_and_queries_are_free(ways, shots, queries):
    assert build()(inputs(2, ways, shots, queries)).shape == (2, queries, ways)


def test_one_graph_takes_episodes_of_any_shape():
    model = build()
    specs = {name: tf.TensorSpec(symbol.shape, tf.float32) for name, symbol in zip(model.input_names, model.inputs)}
    graph = tf.function(lambda x: model(x), input_signature=[specs])
    for episode in (inputs(1, 2, 1, 1), inputs(2, 5, 3, 2)):
        close(graph(episode), model(episode), 1e-4)


def test_relate_and_score_equal_the_call():
    model, x = build(), inputs(2)
    features = model.relate({name: tf.constant(array) for name, array in x.items()})
    assert [x.shape for x in features] == [(2, 3, 2, 2, 4), (2, 4, 2, 2, 4)]
    close(model.head.score(features), model(x), 1e-5)
    support, query = x["support_images"].reshape(-1, SIZE, SIZE, 3), x["query_images"].reshape(-1, SIZE, SIZE, 3)
    by_hand = model.head.relate(
        model.backbone(support).numpy().reshape(2, 6, 2, 2, 4),
        x["support_labels"],
        model.backbone(query).numpy().reshape(2, 4, 2, 2, 4),
    )
    close(features, by_hand, 1e-5)


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_episodes_are_independent_in_inference(batch_statistics):
    model, x = build(batch_statistics=batch_statistics), inputs(3)
    alone = [model({name: array[e : e + 1] for name, array in x.items()}) for e in range(3)]
    np.testing.assert_allclose(model(x), np.concatenate(alone), rtol=1e-4, atol=1e-5)


def test_support_and_query_pass_the_backbone_in_one_batch_in_training():
    model, x = build(), inputs(2)
    joined = np.concatenate([x["support_images"], x["query_images"]], axis=1).reshape(-1, SIZE, SIZE, 3)
    convolved = model.backbone.get_layer("block1_conv")(joined).numpy()
    model(x, training=True)
    moving_mean = model.backbone.get_layer("block1_bn").moving_mean
    np.testing.assert_allclose(moving_mean, 0.1 * convolved.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)


def test_inference_is_the_default_and_changes_no_weight():
    model, x = build(batch_statistics=False), inputs()
    before = model.get_weights()
    np.testing.assert_array_equal(model(x), model(x, training=False))
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_the_order_of_the_support_images_does_not_matter():
    model, x = build(), inputs()
    order = [3, 0, 5, 1, 4, 2]
    shuffled = {**x, "support_images": x["support_images"][:, order], "support_labels": x["support_labels"][:, order]}
    close(model(shuffled), model(x), 1e-4)


# === construction ===


def test_build_from_seeds():
    same, again, other = build(5), build(5), build(6)
    close(same.get_weights(), again.get_weights())
    assert any(np.any(a != b) for a, b in zip(same.backbone.get_weights(), other.backbone.get_weights()))
    assert any(np.any(a != b) for a, b in zip(same.head.get_weights(), other.head.get_weights()))


def test_the_head_draws_from_another_stream_than_the_backbone():
    model = EpisodicModel.build_from({"name": "conv4", "width": 3}, "relation", 16, seed=0)
    backbone = model.backbone.get_layer("block1_conv").kernel.numpy()
    head = model.head.score_model.get_layer("block1_conv").kernel.numpy()
    assert np.any(backbone.ravel()[:20] != head.ravel()[:20])


def test_names_and_sizes():
    model = build()
    assert model.image_size == SIZE
    names = [layer.name for layer in model.layers]
    assert {"join", "split", "conv4", "relate", "score"} <= set(names)
    assert len({id(w) for w in model.weights}) == len(model.weights)
    assert len(model.weights) == len(model.backbone.weights) + len(model.head.weights)


@pytest.mark.parametrize(
    ("backbone", "head", "message"),
    [
        ("conv5", "relation", "unknown backbone 'conv5'; did you mean 'conv4'"),
        ("conv4", "relations", "unknown head 'relations'; did you mean 'relation'"),
        ({"name": "conv4", "widht": 3}, "relation", "takes no argument 'widht'; did you mean 'width'"),
        ({"width": 3}, "relation", "unknown backbone None"),
    ],
)
def test_bad_parts_are_refused(backbone, head, message):
    with pytest.raises(ConfigError, match=message):
        EpisodicModel.build_from(backbone, head, SIZE)


# === configuration and files ===


def test_config_round_trip():
    model, x = build(hidden=5, loss="cross_entropy", batch_statistics=False), inputs()
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    for copy in (EpisodicModel.from_config(model.get_config()), keras.saving.deserialize_keras_object(stored)):
        assert isinstance(copy, EpisodicModel)
        # Tuples that went through JSON are lists.
        assert json.dumps(copy.get_config()) == json.dumps(model.get_config())
        assert (copy.head.hidden, copy.head.loss_name, copy.head.batch_statistics) == (5, "cross_entropy", False)
        copy.set_weights(model.get_weights())
        np.testing.assert_array_equal(copy(x), model(x))


@pytest.mark.parametrize("batch_statistics", [pytest.param(False, marks=pytest.mark.slow), True])
def test_keras_file_round_trip(batch_statistics, tmp_path):
    model, x = build(batch_statistics=batch_statistics), inputs()
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(copy, EpisodicModel)
    np.testing.assert_allclose(copy(x), model(x), rtol=1e-6)


def test_mixed_precision():
    model, x = build(), inputs()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        mixed = build()
        scores = mixed(x)
    finally:
        keras.mixed_precision.set_global_policy(None)
    assert scores.dtype == tf.float16
    np.testing.assert_allclose(scores, model(x), atol=0.05)
