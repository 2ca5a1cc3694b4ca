from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import RunError
from egt_tf.keras_api import keras
from egt_tf.training.checkpoints import Checkpoints
from egt_tf.training.guided_model import GuidedModel
from egt_tf.training.state import TrainingState, state_arrays
from egt_tf.weights import load_arrays, save_arrays


def build(width: int = 2, seed: int = 0, loss_scale: bool = False) -> GuidedModel:
    model = GuidedModel(EpisodicModel.build_from({"name": "conv4", "width": width}, "prototype", 16, seed=seed))
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer=keras.mixed_precision.LossScaleOptimizer(optimizer) if loss_scale else optimizer)
    return model


def step(model: GuidedModel) -> None:
    """An update by made-up gradients."""
    rng = np.random.default_rng(int(model.optimizer.iterations.numpy()))
    weights = model.classifier.trainable_variables
    model.optimizer.apply_gradients([(rng.normal(size=w.shape).astype(np.float32), w) for w in weights])


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Checkpoints of the steps 1, 2 and 3. Not to be written to."""
    checkpoints, model = Checkpoints(tmp_path_factory.mktemp("run") / "checkpoints"), build()
    for number in (1, 2, 3):
        step(model)
        checkpoints.save(model, TrainingState([], -1.0, number, 0.5, {"loss": [0.1, number]}))
    return checkpoints.folder


@pytest.fixture
def checkpoints(written, tmp_path) -> Checkpoints:
    return Checkpoints(shutil.copytree(written, tmp_path / "checkpoints"))


@pytest.fixture(scope="module")
def model() -> GuidedModel:
    """A model to restore into; tests leave other weights behind."""
    return build(seed=1)


def restore(checkpoints: Checkpoints, model: GuidedModel, older: str = "last.npz") -> tuple[TrainingState, list[str]]:
    lines: list[str] = []
    return checkpoints.restore(model, checkpoints.folder.parent / older, lines.append), lines


def test_the_newest_are_kept(checkpoints, model):
    assert [file.name for file in checkpoints.files()] == ["000001.npz", "000002.npz", "000003.npz"]
    restore(checkpoints, model)
    checkpoints.keep = 2
    step(model)
    checkpoints.save(model, TrainingState())
    assert sorted(os.listdir(checkpoints.folder)) == ["000003.npz", "000004.npz"]
    assert checkpoints.newest_step() == 4


def test_what_was_saved_is_restored(checkpoints, model):
    progress, lines = restore(checkpoints, model)
    assert lines == []
    assert model.optimizer.iterations.numpy() == 3
    assert progress == TrainingState([], -1.0, 3, 0.5, {"loss": [0.1, 3]})
    # A checkpoint stays an archive like any other.
    for name, array in load_arrays(checkpoints.files()[-1]).items():
        if name.startswith("model/"):
            assert np.isfinite(array).all()


def test_equal_states_are_equal_files(checkpoints, model, tmp_path):
    progress, _ = restore(checkpoints, model)
    again = Checkpoints(tmp_path / "again")
    again.save(model, progress)
    assert again.files()[0].read_bytes() == checkpoints.files()[-1].read_bytes()


def test_the_loss_scale_is_restored(tmp_path):
    model, other, checkpoints = build(loss_scale=True), build(loss_scale=True, seed=1), Checkpoints(tmp_path)
    weights = model.classifier.trainable_variables
    model.optimizer.apply_gradients([(np.full(w.shape, np.nan, np.float32), w) for w in weights])
    step(model)
    checkpoints.save(model, TrainingState())
    restore(checkpoints, other)
    assert other.optimizer.loss_scale.numpy() == model.optimizer.loss_scale.numpy() == 2.0**14
    assert other.optimizer.dynamic_counter.numpy() == 1
    assert other.optimizer.iterations.numpy() == 2


# === Damage ===


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damages(seed: int = 5, flips: int = 12):
    """Ways to damage a file, flipped bits at random places among them."""
    yield from (
        truncate,
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: b"garbage" * 40,
        lambda content: content + b"x",
    )
    for place, bit in np.random.default_rng(seed).uniform(size=(flips, 2)):

        def flip(content, place=place, bit=bit):
            changed = bytearray(content)
            changed[int(place * len(content))] ^= 1 << int(8 * bit)
            return bytes(changed)

        yield flip


@pytest.mark.parametrize("damage", list(damages()))
def test_a_damaged_checkpoint_gives_way_to_the_one_before(checkpoints, model, damage):
    newest = checkpoints.files()[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    progress, lines = restore(checkpoints, model)
    assert progress.step == 2
    assert model.optimizer.iterations.numpy() == 2
    (line,) = lines
    assert line == f"the checkpoint {newest} is damaged (its checksum is wrong); going on from the one before"
    # It would count as the newest, and crowd out whole ones.
    assert not newest.exists()


def test_a_folder_in_the_place_of_a_checkpoint_is_passed_over(checkpoints, model):
    (checkpoints.folder / "000009.npz").mkdir()
    progress, lines = restore(checkpoints, model)
    assert progress.step == 3
    assert len(lines) == 1


def test_all_damaged_is_an_error_that_removes_nothing(checkpoints, model):
    for file in checkpoints.files():
        file.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"must be whole to go on from it. Received: damaged ones only \(3\)"):
        restore(checkpoints, model)
    assert len(checkpoints.files()) == 3


def test_none_at_all_is_an_error(tmp_path, model):
    with pytest.raises(RunError, match=r"must hold a checkpoint to go on from. Received: none"):
        restore(Checkpoints(tmp_path / "missing"), model)


def test_the_single_state_of_an_older_version_is_the_last_resort(checkpoints, model):
    older = build(seed=4)
    step(older)
    save_arrays(checkpoints.folder.parent / "last.npz", state_arrays(older, TrainingState([{"epoch": 1}], 0.5)))
    assert restore(checkpoints, model)[0].step == 3
    for file in checkpoints.files():
        file.write_bytes(truncate(file.read_bytes()))
    progress, lines = restore(checkpoints, model)
    assert (progress.epochs, len(lines), checkpoints.files()) == (1, 3, [])
    for a, b in zip(model.classifier.get_weights(), older.classifier.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_another_architecture_is_an_error_and_no_damage(checkpoints):
    with pytest.raises(RunError, match=r"000003.npz must hold the state of a training with this model"):
        restore(checkpoints, build(width=3))
    assert len(checkpoints.files()) == 3


# === Writing ===


def test_what_a_killed_process_left_half_written_is_removed(checkpoints, model):
    (checkpoints.folder / ".000004.npz.abc.part").write_bytes(b"half")
    (checkpoints.folder / "notes.npz").write_bytes(b"not ours")
    assert restore(checkpoints, model)[0].step == 3
    assert sorted(os.listdir(checkpoints.folder)) == ["000001.npz", "000002.npz", "000003.npz", "notes.npz"]


def test_weights_that_are_not_finite_are_not_written(checkpoints):
    spoilt = build()
    kernel = spoilt.classifier.trainable_variables[0]
    kernel.assign(kernel * np.inf)
    with pytest.raises(
        RunError,
        match=r"Received: NaN or infinity in weight backbone/block1_conv/kernel, step 0; the "
        "state after step 3 is kept in .*000003.npz",
    ):
        checkpoints.save(spoilt, TrainingState())
    assert len(checkpoints.files()) == 3
