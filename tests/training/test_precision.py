from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import RunConfig, config_from_dict
from egt_tf.keras_api import keras, layers_in
from egt_tf.runs import RunFolder
from egt_tf.training.checkpoints import Checkpoints
from egt_tf.training.loop import train
from egt_tf.training.precision import state_variables, with_loss_scale
from egt_tf.weights import load_arrays

HEADS = ("relation", "graph", "cross_attention", "prototype", "cosine", "ridge")
LOSSES = ("plain_loss", "guided_loss", "auxiliary_loss")


def config(
    head: str = "relation", epochs: int = 1, steps: int = 1, width: int = 4, size: int = 32, **training
) -> RunConfig:
    training = {
        "epochs": epochs,
        "episodes_per_epoch": steps,
        "validation_episodes": 2,
        "learning_rate": 0.01,
        "optimizer": {"name": "sgd", "momentum": 0.0},
        **training,
    }
    return config_from_dict(
        {
            "data": {"image_size": size},
            "episode": {"ways": 3, "shots": 2, "queries": 2},
            "model": {"backbone": {"name": "conv4", "width": width}, "head": head},
            "training": training,
        },
        "the test",
    )


def losses(run: RunFolder) -> list[float]:
    return [run.metrics()[0][name] for name in LOSSES]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The run of `config(head)`, trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("plain")

    def of(head: str) -> RunFolder:
        run = RunFolder(folder / head)
        if not run.path.exists():
            train(config(head), run)
        return run

    return of


def check_close_to_float32(plain: RunFolder, tmp_path, head: str, **training) -> None:
    other = RunFolder(tmp_path / "other")
    train(config(head, **training), other)
    assert all(np.isfinite(array).all() for array in load_arrays(other.best_file).values())
    assert losses(other) == pytest.approx(losses(plain), rel=0.1, abs=0.02)
    assert keras.mixed_precision.global_policy().name == "float32"
    model = other.load_model()
    assert {layer.compute_dtype for layer in model.submodules if isinstance(layer, keras.layers.Layer)} == {"float32"}


def newest_state(run: RunFolder):
    return load_arrays(Checkpoints(run.checkpoints_folder).files()[-1])


@pytest.mark.parametrize("precision", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_losses_are_close_to_those_of_float32(plain, tmp_path, precision):
    check_close_to_float32(plain("prototype"), tmp_path, "prototype", precision=precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head(plain, tmp_path, head, precision):
    check_close_to_float32(plain(head), tmp_path, head, precision=precision)


@pytest.mark.slow
def test_a_resumed_run_keeps_the_loss_scale(tmp_path):
    alone, resumed = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "resumed")
    options = {"head": "prototype", "precision": "mixed_float16", "steps": 2}
    train(config(epochs=2, **options), alone)
    train(config(**options), resumed)
    first = newest_state(resumed)
    train(config(epochs=2, **options), resumed, resume=True)
    expected, actual = newest_state(alone), newest_state(resumed)
    for name in expected.keys() - {"progress"}:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    # The step, its learning rate and the momentum of the weights come before the scale and its counter.
    scale, counter = (first[name] for name in sorted(n for n in first if n.startswith("optimizer/"))[-2:])
    assert scale >= 1
    assert 0 <= counter <= 2
    assert scale < 2**15 or counter == 2


def test_layers_keep_the_precision_and_the_process_does_not():
    with layers_in("mixed_bfloat16"):
        layer = keras.layers.Dense(2)
    assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    assert keras.layers.Dense(2).compute_dtype == "float32"
    with pytest.raises(RuntimeError), layers_in("mixed_float16"):
        raise RuntimeError
    assert keras.mixed_precision.global_policy().name == "float32"
    keras.backend.set_floatx("float64")
    try:
        assert keras.layers.Dense(2).compute_dtype == "float64"
    finally:
        keras.backend.set_floatx("float32")


@pytest.mark.parametrize(("precision", "more"), [("float32", 0), ("mixed_bfloat16", 0), ("mixed_float16", 2)])
def test_a_loss_scale_is_part_of_the_state(precision, more):
    optimizer = keras.optimizers.SGD(0.1)
    result = with_loss_scale(optimizer, precision)
    assert len(state_variables(result)) == len(optimizer.variables) + more
    assert (result is optimizer) == (more == 0)


# === compilation ===


def check_equal_with_xla(plain: RunFolder, tmp_path, head: str) -> None:
    compiled = RunFolder(tmp_path / "compiled")
    train(config(head, xla=True), compiled)
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_xla_changes_no_loss(plain, tmp_path):
    check_equal_with_xla(plain("prototype"), tmp_path, "prototype")


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_xla_compiles_every_head(plain, tmp_path, head):
    check_equal_with_xla(plain(head), tmp_path, head)


@pytest.mark.slow
def test_several_steps_at_a_time_give_the_same_weights(tmp_path):
    runs = [RunFolder(tmp_path / name) for name in "ab"]
    for run, number in zip(runs, (1, 2)):
        train(config("prototype", epochs=2, steps=4, steps_per_execution=number), run)
    a, b = (newest_state(run) for run in runs)
    for name in a.keys() - {"progress"}:
        np.testing.assert_allclose(a[name], b[name], atol=1e-6, err_msg=name)
