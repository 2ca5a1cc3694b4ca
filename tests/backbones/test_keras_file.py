"""A user's own Keras files: models of Keras 2 and 3, and files that would run code if Keras loaded them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from egt_tf.backbones import BACKBONES, keras_file
from egt_tf.backbones.keras_file import read_keras_model
from egt_tf.data.preprocessing import normalize
from egt_tf.errors import ConfigError
from egt_tf.keras_api import keras

L = keras.layers
DATA = Path(__file__).parent / "data"
SIZE = 12


def _residual() -> keras.Model:
    images = keras.Input((SIZE, SIZE, 3))
    x = L.Conv2D(4, 3, padding="same", use_bias=False, kernel_regularizer="l2")(images)
    x = before = L.Activation("relu")(L.BatchNormalization()(x))
    x = L.Concatenate()([L.SeparableConv2D(4, 3, padding="same")(x), before])
    x = L.AveragePooling2D()(L.PReLU(shared_axes=(1, 2))(x))
    x = L.DepthwiseConv2D(3, activation="elu", name="last_map")(x)
    return keras.Model(images, L.Dense(2, activation="softmax")(L.GlobalMaxPooling2D()(x)))


def _nested(trainable: bool) -> keras.Model:
    inner = keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), L.Conv2D(3, 3), L.BatchNormalization(), L.ReLU(6.0), L.Conv2D(2, 1)]
        + [L.BatchNormalization()]
    )
    inner.trainable = trainable
    shared = L.Conv2D(3, 1, padding="same", name="shared")
    images = keras.Input((SIZE, SIZE, 3))
    x = L.Add()([inner(shared(images)), inner(shared(shared(images)))])
    return keras.Model(images, L.Flatten()(L.Conv2D(2, 1, name="last_map")(x)))


def _chain() -> keras.Model:
    layers = [L.Rescaling(2.0), L.Conv2D(4, 3, activation="gelu"), L.Dropout(0.2), L.Conv2D(4, 3, name="last_map")]
    model = keras.Sequential([*layers, L.Flatten(), L.Dense(2)])
    model.build((None, SIZE, SIZE, 3))
    return model


MODELS = {
    "residual": _residual,
    "nested": lambda: _nested(True),
    "frozen": lambda: _nested(False),
    "chain": _chain,
}


def _saved(model: keras.Model, path: Path) -> keras.Model:
    rng = np.random.default_rng(4)
    model.set_weights([rng.uniform(0.1, 0.6, weight.shape) for weight in model.get_weights()])
    model.save(path)
    return keras.Model(model.inputs, model.get_layer("last_map").output)


def _grey(size=SIZE) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (2, size, size, 3)).astype(np.uint8)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", MODELS)
def test_the_maps_are_those_of_the_saved_model(name, suffix, tmp_path):
    path = tmp_path / f"model.{suffix}"
    wanted = _saved(MODELS[name](), path)(normalize(_grey())).numpy()
    found = BACKBONES.get(f"keras:{path}:last_map", image_size=SIZE)(normalize(_grey())).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert np.ptp(wanted) > 0.1


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", ["functional", "sequential"])
def test_files_of_keras_3(name, suffix):
    with np.load(DATA / f"keras3_{name}.npz") as arrays:
        images, wanted = arrays["images"], arrays["maps"]
    model = keras_file(f"{DATA}/keras3_{name}.{suffix}:last_map", image_size=SIZE, scale="0..255")
    np.testing.assert_allclose(model(normalize(images.astype(np.uint8))), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "function"),
    [("0..1", lambda x: x / 255), ("-1..1", lambda x: x / 127.5 - 1), ("0..255", lambda x: x), ("imagenet", normalize)],
)
def test_scales(scale, function, tmp_path):
    wanted = _saved(_chain(), tmp_path / "model.keras")(function(_grey().astype(np.float32))).numpy()
    found = keras_file(f"{tmp_path}/model.keras:last_map", image_size=SIZE, scale=scale)(normalize(_grey())).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


def test_the_last_map_at_another_size(tmp_path):
    _saved(_residual(), tmp_path / "model.keras")
    assert keras_file(f"{tmp_path}/model.keras", image_size=20).output_shape == (None, 8, 8, 8)


# === What is refused ===


def _with_description(path: Path, change) -> Path:
    """A copy of a .keras file whose description was changed."""
    target = path.with_name("changed.keras")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        described = json.loads(source.read("config.json"))
        change(described)
        for name in source.namelist():
            archive.writestr(name, json.dumps(described) if name == "config.json" else source.read(name))
    return target


@pytest.fixture
def saved(tmp_path) -> Path:
    _saved(_chain(), tmp_path / "model.keras")
    return tmp_path / "model.keras"


def _convolution(described) -> dict:
    return next(layer for layer in described["config"]["layers"] if layer["class_name"] == "Conv2D")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_is_refused_by_name(suffix, tmp_path):
    path = tmp_path / f"model.{suffix}"
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), L.Conv2D(2, 1), L.Lambda(lambda x: x + 1)])
    model.save(path)
    with pytest.raises(ConfigError, match=r"Keras's ordinary ones. Received: a layer 'Lambda'"):
        keras_file(str(path), image_size=SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: _convolution(d).update(module="os", class_name="system"), "Received: 'system' of 'os'"),
        (
            lambda d: _convolution(d).update(registered_name="mine>Conv2D"),
            "'mine>Conv2D' of 'keras.layers', which is not",
        ),
        (lambda d: _convolution(d).update(module="kerasx.layers"), "of 'kerasx.layers', which is not loaded"),
        (lambda d: _convolution(d).update(class_name="TFOpLambda"), "a layer 'TFOpLambda'"),
        (lambda d: _convolution(d).update(class_name="Cnv2D"), "a layer 'Cnv2D'; did you mean 'Conv2D'"),
        (lambda d: _convolution(d)["config"].update(activation="eval"), "Received: 'eval', which is not loaded"),
        (
            lambda d: _convolution(d)["config"].update(
                activation={"class_name": "function", "config": "system", "module": "os"}
            ),
            "Received: 'system', which is not loaded",
        ),
        (
            lambda d: _convolution(d)["config"].update(
                filters={"class_name": "__lambda__", "config": {"value": ["x"]}}
            ),
            "arguments in .* must be numbers and words",
        ),
        (lambda d: _convolution(d)["config"].update(spell=3), "Received: 'spell' of a layer Conv2D"),
        (lambda d: _convolution(d)["config"].update(filters=-1), "must fit to each other"),
        (lambda d: _convolution(d)["config"].update(filters=5), "weights in .* must fit its layers"),
        (lambda d: d.update(class_name="Custom"), "must hold a Functional or Sequential model. Received: 'Custom'"),
        (lambda d: d["config"].update(layers="none"), "must list the layers"),
        (lambda d: d["config"]["layers"].append(3), "must have a class and a configuration"),
        (lambda d: d["config"]["layers"].clear(), "must fit to each other"),
    ],
)
def test_descriptions_are_checked(change, message, saved):
    with pytest.raises(ConfigError, match=message):
        keras_file(str(_with_description(saved, change)), image_size=SIZE)


def test_initializers_are_not_looked_up(saved):
    path = _with_description(
        saved,
        lambda d: _convolution(d)["config"].update(
            kernel_initializer={"class_name": "function", "config": "system", "module": "os"}
        ),
    )
    assert keras_file(f"{path}:last_map", image_size=SIZE).output_shape == (None, 8, 8, 4)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("{}/model.keras:lst_map", r"must name a layer of .*'lst_map'; did you mean 'last_map'"),
        ("{}/model.keras:flatten", "whose output is a map"),
        ("{}/none.keras", "must be a file. Received: no such file"),
        ("{}/model.pkl", "must be a file .keras or .h5"),
    ],
)
def test_locations_are_checked(location, message, saved):
    # Keras counts the names of layers over a whole process.
    flatten = next(layer.name for layer in read_keras_model(saved, SIZE).layers if layer.name.startswith("flatten"))
    with pytest.raises(ConfigError, match=message):
        keras_file(location.format(saved.parent).replace("flatten", flatten), image_size=SIZE)


def test_weights_alone_are_no_model(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    with pytest.raises(ConfigError, match="weights alone"):
        keras_file(f"{tmp_path}/model.h5", image_size=SIZE)


def test_weights_that_are_not_finite(saved):
    target = saved.with_name("changed.keras")
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(target, "w") as archive:
        weights = io.BytesIO(source.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            names = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            kernel = next(name for name in names if len(file[name].shape) == 4)
            file[kernel][0] = np.nan
        archive.writestr("config.json", source.read("config.json"))
        archive.writestr("model.weights.h5", weights.getvalue())
    with pytest.raises(ConfigError, match="must be finite numbers"):
        keras_file(str(target), image_size=SIZE)


@pytest.mark.parametrize("kept", [0, 10, 200, 2000, -20])
def test_truncated_files(saved, kept):
    target = saved.with_name("short.keras")
    target.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"short.keras must"):
        keras_file(str(target), image_size=SIZE)


def test_changed_files_are_read_or_refused(saved):
    """Bytes of the archive's description and of its weights changed at random."""
    rng, original = np.random.default_rng(7), saved.read_bytes()
    target = saved.with_name("mutated.keras")
    refused = 0
    for _ in range(20):
        content = bytearray(original)
        for position in rng.integers(0, len(content), 3):
            content[position] = rng.integers(256)
        target.write_bytes(content)
        try:
            read_keras_model(target, SIZE)
        except ConfigError:
            refused += 1
    assert refused > 5
