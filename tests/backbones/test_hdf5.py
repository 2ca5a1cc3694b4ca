"""HDF5 files that refer to others, or describe more than they hold."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from egt_tf.backbones.hdf5 import member, shape_of
from egt_tf.backbones.keras_file import read_keras_model
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras

SIZE = 8
KERNEL = (3, 3, 3, 4)
L = keras.layers


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file of the machine that no model may show."""
    numbers = np.full(KERNEL, 42, np.float32)
    (tmp_path / "secret.bin").write_bytes(numbers.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["numbers"] = numbers
    return tmp_path / "secret.bin"


def _external(group, name, secret):
    group.create_dataset(name, KERNEL, "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def _link(group, name, secret):
    group[name] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "numbers")


def _virtual(group, name, secret):
    layout = h5py.VirtualLayout(KERNEL, "f4")
    layout[...] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "numbers", KERNEL)
    group.create_virtual_dataset(name, layout)


def _huge(group, name, secret):
    group.create_dataset(name, (2**30, 8), "f4", chunks=(2**14, 8), fillvalue=1, compression="gzip")


def _empty(group, name, secret):
    group[name] = h5py.Empty("f4")


def _text(group, name, secret):
    group[name] = "kernel"


def _group(group, name, secret):
    group.create_group(name)


CHANGES = {
    _external: "lie in another file, which is not read",
    _virtual: "lie in another file, which is not read",
    _link: "is a link, which is not followed",
    _huge: "must fit its layers",
    _empty: "is no array of floating-point numbers",
    _text: "is no array of floating-point numbers",
    _group: "is no array of floating-point numbers",
}


def _replaced(file: Path, change, secret: Path) -> None:
    """Puts something else in the place of the convolution's kernel."""
    with h5py.File(file, "r+") as content:
        names = []
        content.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        (name,) = (name for name in names if content[name].shape == KERNEL)
        del content[name]
        change(content, name, secret)


def _saved(path: Path) -> Path:
    keras.Sequential([keras.Input((SIZE, SIZE, 3)), L.Conv2D(4, 3, name="conv")]).save(path)
    return path


def _rewritten(path: Path, change) -> Path:
    """The .keras file after `change` of its members by name, compressed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_numbers_elsewhere_are_not_read(change, suffix, secret, tmp_path):
    path = _saved(tmp_path / f"model.{suffix}")
    weights = tmp_path / "weights.h5"

    def change_members(members):
        weights.write_bytes(members["model.weights.h5"])
        _replaced(weights, change, secret)
        members["model.weights.h5"] = weights.read_bytes()

    if suffix == "h5":
        _replaced(path, change, secret)
    else:
        _rewritten(path, change_members)
    with pytest.raises(ConfigError, match=CHANGES[change]):
        read_keras_model(path, SIZE)


def test_a_group_may_not_be_a_link(secret):
    with h5py.File(secret.with_name("a.h5"), "w") as file:
        file["there/kernel"] = np.ones(3, np.float32)
        file["here"] = h5py.SoftLink("/there")
        file["away"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/")
        assert shape_of(member(file, "/there/kernel")) == (3,)
        for name in ("here/kernel", "away/numbers"):
            with pytest.raises(ValueError, match=f"'{name}' is a link"):
                member(file, name)
        with pytest.raises(ValueError, match="leads through what is no group"):
            member(file, "there/kernel/more")
        with pytest.raises(KeyError):
            member(file, "nowhere")


# === Descriptions that ask for more than the file holds ===


def _layer(**config):
    def change(layers):
        next(layer for layer in layers if layer["class_name"] == "Conv2D")["config"].update(config)

    return change


def _without_initializers(layers):
    _layer(filters=2**29)(layers)
    for layer in layers:
        layer["config"] = {name: value for name, value in layer["config"].items() if "initializer" not in name}


def _more(class_name, number=1, **config):
    def change(layers):
        layers += [
            {"module": "keras.layers", "class_name": class_name, "config": {"name": f"more{index}", **config}}
            for index in range(number)
        ]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_layer(filters=2**29), r"weights of shape \(3, 3, 3, 536870912\), which the file has no room for"),
        (_without_initializers, r"weights of shape \(3, 3, 3, 536870912\), which the file has no room for"),
        (_more("UpSampling2D", size=[2**14, 2**14]), "a map of .* behind 'more0'"),
        (_more("ZeroPadding2D", padding=2**20), "a map of .* behind 'more0'"),
        (_more("ReLU", number=2000), "at most 2000 layers"),
        (_more("ReLU", number=300), "at most 300 layers. Received: 30"),
        (_layer(activation="hard_sigmoid"), "'hard_sigmoid', which is not loaded"),
        (_layer(activation={"class_name": "ReLU", "config": {"max_value": 6}}), "'ReLU'.*which is not loaded"),
    ],
)
def test_descriptions_may_not_ask_for_more(change, words, tmp_path):
    def change_members(members):
        described = json.loads(members["config.json"])
        change(described["config"]["layers"])
        members["config.json"] = json.dumps(described)

    path = _rewritten(_saved(tmp_path / "model.keras"), change_members)
    with pytest.raises(ConfigError, match=words):
        read_keras_model(path, SIZE)


def test_a_bomb_of_zeros_is_not_unpacked(tmp_path):
    path = _rewritten(_saved(tmp_path / "model.keras"), lambda members: members.update({"config.json": bytes(2**24)}))
    with pytest.raises(ConfigError, match="100 times its compressed size"):
        read_keras_model(path, SIZE)


@pytest.mark.parametrize("frozen", [False, None])
def test_a_call_without_training_stays_one(frozen, tmp_path):
    images = keras.Input((SIZE, SIZE, 3))
    outputs = L.BatchNormalization(name="normalised")(images, training=frozen)
    keras.Model(images, outputs).save(tmp_path / "model.keras")
    model = read_keras_model(tmp_path / "model.keras", SIZE)
    batch = np.random.default_rng(0).normal(3, 1, (4, SIZE, SIZE, 3)).astype(np.float32)
    trained = model(batch, training=True).numpy()
    assert (abs(trained.mean()) > 1) == (frozen is False)


def test_other_calls_are_refused(tmp_path):
    images = keras.Input((SIZE, SIZE, 3))
    keras.Model(images, L.Dropout(0.5)(images, training=True)).save(tmp_path / "model.keras")
    with pytest.raises(ConfigError, match=r"with their inputs alone\. Received: \{'training': True\}"):
        read_keras_model(tmp_path / "model.keras", SIZE)


def test_a_read_model_can_be_written(tmp_path):
    model = read_keras_model(_saved(tmp_path / "model.keras"), SIZE)
    copy = (
        keras.Model.from_config(model.get_config())
        if type(model) is keras.Model
        else type(model).from_config(model.get_config())
    )
    assert copy.get_layer("conv").kernel_initializer.get_config() == {}
