from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import conv4
from egt_tf.config import config_from_dict
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP
from egt_tf.runs import RunFolder
from egt_tf.training.backbone_classifier import BackboneClassifier
from egt_tf.training.challenged_model import ChallengedModel, challenged_images, input_relevance
from egt_tf.training.manipulation import Challenge
from egt_tf.training.pretraining import measured, pretrain
from tests.helpers.commands import draw_classes

LABELS = tf.constant([2, 0, 2, 1])


def classifier(classes: int = 3) -> BackboneClassifier:
    return BackboneClassifier(conv4(16, width=4, seed=1), classes, seed=2)


def pictures() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32))


def test_relevance_is_that_of_the_true_class_and_its_score():
    model, images = classifier(), pictures()
    scores, relevance = input_relevance(model, images, LABELS, COMPOSITES.get("epsilon"))
    np.testing.assert_allclose(scores, model(images), rtol=1e-5, atol=1e-6)
    expected = LRP(model, "epsilon", neuron_selection_mode="index").analyze(images.numpy(), [2, 0, 2, 1])
    np.testing.assert_allclose(relevance, expected, rtol=1e-4, atol=1e-6)


def test_only_what_is_relevant_changes_and_a_rival_lends_its_pixels():
    images, scores = pictures(), tf.constant([[0.0, 5.0, 9.0], [0.0, 1.0, 2.0], [3.0, 1.0, 0.0], [2.0, 0.0, 1.0]])
    relevance = tf.constant(np.random.default_rng(1).normal(size=(4, 16, 16, 3)).astype(np.float32))
    challenge = Challenge("exchange", 0.2, "position")
    changed = challenged_images(images, LABELS, scores, relevance, challenge, tf.constant([1, 2])).numpy()
    is_kept = challenge.weights(relevance, tf.constant([0, 0])).numpy() == 1
    np.testing.assert_array_equal(changed[is_kept], images.numpy()[is_kept])
    # The strongest other class of each of classes 2, 0, 2, 1; of class 2 there are two images.
    for number, rivals in enumerate([(3,), (0, 2), (1,), (1,)]):
        taken = ~is_kept[number]
        assert any(np.array_equal(changed[number][taken], images[rival].numpy()[taken]) for rival in rivals)


def test_the_loss_is_the_sum_of_both_and_the_images_are_constants():
    model = ChallengedModel(classifier(), "attenuate", share=0.3, weight=0.5, plain_weight=2.0)
    images = pictures()
    scores, relevance = input_relevance(model.classifier, images, LABELS, model.composite)
    changed = challenged_images(images, LABELS, scores, relevance, model.challenge, tf.constant([1, 2]))
    plain, hard = (
        tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, model.classifier(x, training=True)))
        for x in (images, changed)
    )
    again = ChallengedModel(classifier(), "attenuate", share=0.3, weight=0.5, plain_weight=2.0)
    again.compile(keras.optimizers.SGD(0.0))
    logs = {name: float(value) for name, value in again.train_step((images, LABELS)).items()}
    np.testing.assert_allclose([logs["plain_loss"], logs["challenger_loss"]], [plain, hard], rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 2 * plain + 0.5 * hard, rtol=1e-5)
    assert abs(float(plain - hard)) > 1e-4
    # The averages that inference takes are those of the images as they are.
    alone = classifier()
    alone(images, training=True)
    for ours, expected in zip(again.classifier.non_trainable_variables, alone.non_trainable_variables, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6, err_msg=ours.name)


def losses(manipulation: str, seed: int) -> list[float]:
    model = ChallengedModel(classifier(), manipulation, seed=seed)
    model.compile(keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors((pictures(), LABELS)).repeat(4)
    return [model.fit(data, epochs=1, verbose=0).history["challenger_loss"][0] for _ in range(2)]


@pytest.mark.parametrize("manipulation", ["exchange", pytest.param("blur", marks=pytest.mark.slow)])
def test_it_learns_in_a_graph(manipulation):
    first, second = losses(manipulation, seed=3)
    assert second < first


@pytest.mark.slow
def test_its_numbers_follow_from_the_seed():
    first, again, other = (losses("noise", seed) for seed in (3, 3, 4))
    assert first == again != other


def test_a_test_has_the_plain_loss_alone():
    model = ChallengedModel(classifier(), "noise")
    model.compile(keras.optimizers.SGD())
    logs = model.evaluate(pictures(), LABELS, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(
        measured(LABELS.numpy(), model.classifier(pictures()).numpy())["loss"], rel=1e-5
    )
    assert logs["challenger_loss"] == 0


def test_config_round_trip():
    model = ChallengedModel(classifier(), "blur", 0.5, "channel", 0.25, True, 2.0, 0.5, "epsilon", 7)
    arguments = set(inspect.signature(ChallengedModel.__init__).parameters) - {"self", "kwargs"}
    assert set(model.get_config()) == arguments
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    copy = keras.saving.deserialize_keras_object(stored)
    configs = ({**each.get_config(), "classifier": each.classifier.classes} for each in (model, copy))
    assert next(configs) == next(configs)


def test_exchange_needs_two_classes():
    with pytest.raises(ConfigError, match=r"exchange must have images of two classes or more\. Received: 1 class"):
        ChallengedModel(classifier(1), "exchange")


def test_measures_are_those_of_their_formulas():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(50, 4)).astype(np.float32), rng.integers(0, 4, 50)
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    found = measured(labels, scores)
    likelihood = -np.log(shares[np.arange(50), labels]).mean()
    np.testing.assert_allclose([found["loss"], found["negative_log_likelihood"]], likelihood, rtol=1e-5)
    assert found["accuracy"] == (shares.argmax(-1) == labels).mean()
    bins = np.ceil(15 * shares.max(-1))
    gaps = [abs(((shares.argmax(-1) == labels) - shares.max(-1))[bins == b].sum()) for b in np.unique(bins)]
    np.testing.assert_allclose(found["calibration_error"], sum(gaps) / 50, rtol=1e-5)


class Interrupt(keras.callbacks.Callback):
    """Stops in the middle of the second epoch, as Ctrl-C does."""

    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == 7:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_pretraining_ends_with_the_same_numbers(tmp_path):
    source = f"folder:{draw_classes(tmp_path / 'drawn', classes=16)}"
    config = config_from_dict(
        {
            "data": {"train": source, "image_size": 16},
            "model": {"backbone": {"name": "conv4", "width": 2}},
            "training": {"checkpoint_every": 3},
            "pretrain": {"epochs": 2, "batch_size": 10, "challenger": {"manipulation": "exchange", "share": 0.5}},
        },
        "the test",
    )
    whole, halted = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "halted")
    pretrain(config, whole)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, halted, callbacks=[Interrupt()])
    assert halted.config() == config
    pretrain(halted.config(), halted, resume=True)
    rows, others = ([{**row, "seconds": 0} for row in run.metrics()] for run in (whole, halted))
    assert rows == others
    assert {"challenger_loss", "plain_loss", "val_calibration_error", "val_negative_log_likelihood"} <= set(rows[0])
