from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones.batch_noise import noise_layers
from egt_tf.config import RunConfig, StudentConfig, config_from_dict
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, RunError
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.loop import train
from egt_tf.training.student import StudentModel, divergence, load_teacher, student_config, take_weights
from egt_tf.weights import assign_backbone, load_arrays, weight_arrays
from tests.helpers.trainings import Interrupt, expect_equal_states, without_seconds


def model(seed: int = 1, head: str = "prototype", **backbone) -> EpisodicModel:
    return EpisodicModel.build_from({"name": "conv4", "width": 2, **backbone}, head, image_size=16, seed=seed)


def episode() -> tuple:
    rng = np.random.default_rng(0)
    support, query = (rng.normal(size=(1, n, 16, 16, 3)).astype(np.float32) for n in (4, 2))
    labels = np.eye(2, dtype=np.float32)[[[0, 0, 1, 1]]]
    return (
        {"support_images": support, "support_labels": labels, "query_images": query},
        tf.constant([[0, 1]], tf.int32),
    )


def compiled(result: GuidedModel) -> GuidedModel:
    keras.Model.compile(result, optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
    return result


# === The loss ===


def test_the_divergence_is_that_of_kullback_and_leibler():
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(5), size=(2, 3)) for _ in range(2))
    slow = (p * np.log(p / q)).sum(axis=-1)
    np.testing.assert_allclose(divergence(tf.math.log(p), tf.math.log(q)), slow, rtol=1e-6)
    np.testing.assert_allclose(divergence(tf.math.log(p), tf.math.log(p)), 0, atol=1e-12)


def test_the_loss_is_that_of_the_guided_model_and_the_weighted_divergence():
    data = episode()
    teacher = model(seed=2)
    both = [
        compiled(make(model(noise=0.3)))
        for make in (GuidedModel, lambda classifier: StudentModel(classifier, teacher, teacher_weight=0.5))
    ]
    plain, taught = (each.step_losses(data) for each in both)
    scores, known = taught.watched["scores"].numpy(), teacher(data[0], training=False).numpy()
    p, q = (np.exp(each) / np.exp(each).sum(-1, keepdims=True) for each in (known, scores))
    slow = (p * np.log(p / q)).sum(-1)
    np.testing.assert_allclose(taught.measured["teacher_loss"], slow, rtol=1e-4)
    assert float(taught.minimised) == pytest.approx(float(plain.minimised) + 0.5 * slow.mean(), rel=1e-5)
    assert float(taught.measured["loss"]) == float(taught.minimised)


def test_a_step_changes_the_student_and_not_its_teacher():
    teacher, student = model(seed=2), model(noise=0.3)
    shell = compiled(StudentModel(student, teacher))
    before, start = teacher.get_weights(), student.trainable_variables[0].numpy()
    logs = shell.train_step(episode())
    assert float(logs["teacher_loss"]) > 0
    assert np.any(student.trainable_variables[0].numpy() != start)
    for now, then in zip(teacher.get_weights(), before):
        np.testing.assert_array_equal(now, then)
    assert {int(layer.calls) for layer in noise_layers(student.backbone)} == {1}


@pytest.mark.slow
def test_the_configuration_makes_an_equal_model():
    shell = StudentModel(model(noise=0.3), model(seed=2), teacher_weight=0.25, guided_weight=0.0)
    again = StudentModel.from_config(shell.get_config())
    assert again.get_config() == shell.get_config()
    assert (again.teacher_weight, again.loss_weights.guided) == (0.25, 0.0)


def test_a_weight_below_0_is_refused():
    with pytest.raises(ConfigError, match=r"`student.weight` must be a number >= 0. Received: -1"):
        StudentModel(model(), model(), teacher_weight=-1)


# === The start ===


def test_all_weights_but_those_of_the_noise_are_the_teachers():
    teacher, student = model(seed=2), model(noise=0.3)
    take_weights(student, teacher, "the test")
    wanted, found = weight_arrays(teacher), weight_arrays(student)
    assert {name for name in found if name not in wanted} == {name for name in found if name.startswith("noise/")}
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    inputs, _ = episode()
    np.testing.assert_allclose(student(inputs), teacher(inputs), rtol=1e-5)


def test_a_teacher_of_other_layers_is_refused():
    with pytest.raises(RunError, match=r"must have the layers of its teacher, x. Received: others at backbone/block1"):
        take_weights(model(width=3, noise=0.1), model(), "x")


# === Trainings ===


def config(**changes) -> RunConfig:
    parts = {
        "data": {"image_size": 16},
        "episode": {"ways": 3, "shots": 2, "queries": 2},
        "model": {"backbone": {"name": "conv4", "width": 2}, "head": "prototype"},
        "guidance": {"mode": "none"},
        "training": {"epochs": 3, "episodes_per_epoch": 2, "validation_episodes": 4, "learning_rate": 0.01},
    }
    return config_from_dict({name: {**values, **changes.get(name, {})} for name, values in parts.items()}, "the test")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("runs") / "teacher")
    train(config(), run)
    return run


@pytest.fixture(scope="module")
def alone(teacher, tmp_path_factory) -> RunFolder:
    """A student that was left alone."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "alone")
    train(student_config(teacher, 0.3), run)
    return run


def test_the_configuration_of_a_student(teacher):
    found = student_config(teacher, 0.3, 0.5, ["training.seed=5"])
    assert found.model.backbone == {"name": "conv4", "width": 2, "noise": 0.3}
    assert (found.student.teacher, found.student.weight) == (str(teacher.path), 0.5)
    assert (found.training.epochs, found.training.seed) == (2, 5)
    assert found.guidance == teacher.config().guidance
    assert student_config(teacher, overrides=["training.epochs=7"]).training.epochs == 7
    for degree in (1.5, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=r"`degree` must be a number in \[0, 1\]"):
            student_config(teacher, degree)


@pytest.mark.slow
def test_a_student_starts_from_its_teacher(teacher, alone):
    # The checkpoint before the first step is still there.
    start = load_arrays(alone.checkpoints_folder / "000000.npz")
    for name, array in load_arrays(teacher.best_file).items():
        np.testing.assert_array_equal(start[f"model/{name}"], array, err_msg=name)


@pytest.mark.slow
def test_an_interrupted_student_ends_with_the_same_numbers(alone, tmp_path):
    resumed = RunFolder(tmp_path / "resumed")
    with pytest.raises(KeyboardInterrupt):
        train(alone.config(), resumed, callbacks=[Interrupt(epoch=2)])
    train(resumed.config(), resumed, resume=True)
    assert without_seconds(resumed) == without_seconds(alone)
    expect_equal_states(resumed, alone)


@pytest.mark.slow
def test_a_student_is_a_run_like_any_other(alone):
    rows = alone.metrics()
    assert all(row["teacher_loss"] >= 0 for row in rows)
    first, second = (alone.load_model() for _ in range(2))
    inputs, _ = episode()
    np.testing.assert_array_equal(first(inputs), second(inputs))
    layers = noise_layers(first.backbone)
    assert {layer.degree for layer in layers} == {0.3}
    # Of 1 to 4 steps: the best epoch is kept.
    assert {int(layer.calls) for layer in layers} <= {2, 4}
    assert min(float(tf.reduce_max(layer.running_deviations())) for layer in layers) > 0


def test_the_teacher_of_a_student_has_no_noise(alone, teacher):
    loaded = load_teacher(alone.path)
    assert {layer.degree for layer in noise_layers(loaded.backbone)} == {0.0}
    again = student_config(alone, 0.1)
    assert again.model.backbone["noise"] == 0.1
    assert noise_layers(load_teacher(teacher.path).backbone) == []


def test_a_backbone_with_noise_and_one_without_take_each_others_weights():
    plain, noisy = model(seed=2), model(seed=1, noise=0.2)
    for taker, giver in ((noisy, plain), (plain, model(seed=3, noise=0.2))):
        assign_backbone(taker, weight_arrays(giver), "the test")
        np.testing.assert_array_equal(taker.backbone.get_weights()[0], giver.backbone.get_weights()[0])


def test_a_missing_teacher_is_named_when_the_training_is_gone_on_with(alone, tmp_path):
    student = RunFolder(shutil.copytree(alone.path, tmp_path / "student"))
    lost = dataclasses.replace(alone.config(), student=StudentConfig(teacher=str(tmp_path / "lost")))
    student.replace_config(lost)
    with pytest.raises(RunError, match=r"the teacher must be a trained run: the run folder .*lost must exist"):
        train(lost, student, resume=True)


def test_a_run_without_weights_is_no_teacher(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create(config())
    with pytest.raises(RunError, match=r"the teacher must be a trained run: the run .* must have finished an epoch"):
        train(student_config(run), RunFolder(tmp_path / "student"))
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(
    ("override", "received"),
    [
        ("training.warm_start=elsewhere", "training.warm_start"),
        ("training.learn_transformation=true", "training.learn_transformation"),
        ("model.backbone={name: conv4, width: 2, trainable: false, neck: 4}", "model.backbone.trainable=false"),
    ],
)
def test_what_does_not_go_with_a_teacher(teacher, tmp_path, override, received):
    with pytest.raises(ConfigError, match=f"`student.teacher` must be null with {received}"):
        train(student_config(teacher, overrides=[override]), RunFolder(tmp_path / "student"))
