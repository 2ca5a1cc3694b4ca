"""A user's own Keras model as a backbone: .keras and .h5 files, of Keras 2 and Keras 3."""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from egt_tf.backbones.base import BACKBONES
from egt_tf.backbones.hdf5 import member, shape_of
from egt_tf.backbones.layers import from_normalized
from egt_tf.errors import ConfigError, check_integer, did_you_mean
from egt_tf.keras_api import keras
from egt_tf.keras_config import Description, model_from

# What the model takes: the mean and the standard deviation that grey levels 0..255 are normalised by; None: as here.
SCALES: dict[str, tuple[float, float] | None] = {
    "imagenet": None,
    "0..1": (0.0, 255.0),
    "-1..1": (127.5, 127.5),
    "0..255": (0.0, 1.0),
}
SUFFIXES = (".keras", ".h5")

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MAX_CONFIG, _MAX_WEIGHTS = 32 * 2**20, 4 * 2**30
# Keras does not compress; what others compress hardly gets smaller by this factor.
_MAX_COMPRESSION = 100
# The group of a model's layers, as Keras 2 and 3 call it, and as Keras 2 calls that of a chain.
_LISTS_OF_LAYERS = ("layers", "_layer_checkpoint_dependencies")
# What the readers of archives raise for damaged ones.
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    EOFError,
    AttributeError,
    zipfile.BadZipFile,
    NotImplementedError,
)


@BACKBONES.register_family("keras")
def keras_file(
    location: str, image_size: int = 224, scale: str = "imagenet", output: str = "last", seed: int | None = None
) -> keras.Model:
    """A Keras model from a file: "keras:FILE.keras", or "keras:FILE.h5:LAYER" for the map of one layer.

    No code in the file is run: its description is checked against tables of known layers and made anew from them, see
    `egt_tf.keras_config`, and its weights are read as arrays.

    Args:
        location: the file, and behind a colon the name of a layer.
        image_size: height and width of the images in pixels, whatever size the model was trained at.
        scale: how the model wants its images: "imagenet" (normalised as everywhere in this package), or grey levels
            brought to "0..1", "-1..1" or "0..255".
        output: the name of the layer whose map is taken, in place of `:LAYER`; "last": the last map there is.
        seed: not used; every backbone takes one.

    Returns:
        A Functional model from normalised images `(images, size, size, 3)` to maps `(images, h, w, channels)`.

    Raises:
        ConfigError: the file is missing, damaged or no Keras model; a layer in it is not known; its weights do not fit;
            no such layer, or its output is no map.

    Example:
        >>> keras_file("no/such/model.keras")
        Traceback (most recent call last):
        egt_tf.errors.ConfigError: the Keras model no/such/model.keras must be a file. Received: no such file
    """
    check_integer("image_size", image_size, 1)
    if scale not in SCALES:
        raise ConfigError(f"`scale` must be one of {', '.join(SCALES)}. Received: {scale!r}")
    path, layer = _parts(location)
    inner = _with_output(read_keras_model(path, image_size), layer or output, path)
    images = keras.Input((image_size, image_size, 3), name="images")
    units = SCALES[scale]
    x = images if units is None else from_normalized([units[0]] * 3, [units[1]] * 3, name="scaled")(images)
    return keras.Model(images, inner(x), name="keras_file")


def read_keras_model(path: Path, image_size: int) -> keras.Model:
    """The model of a file with its weights.

    Args:
        path: of a .keras or .h5 file.
        image_size: height and width of its input, whatever the file says.

    Raises:
        ConfigError: see `keras_file`.

    Example:
        >>> read_keras_model(Path("model.pkl"), 32)
        Traceback (most recent call last):
        egt_tf.errors.ConfigError: a Keras model must be a file .keras or .h5. Received: model.pkl
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"a Keras model must be a file {' or '.join(SUFFIXES)}. Received: {path}")
    if not path.is_file():
        raise ConfigError(f"the Keras model {path} must be a file. Received: no such file")
    with _damage_named(path):
        return _read_archive(path, image_size) if zipfile.is_zipfile(path) else _read_h5(path, image_size)


def _parts(location: str) -> tuple[Path, str | None]:
    """The file and the layer of "FILE[:LAYER]"; the file's own name may hold a colon."""
    found = re.match(r"(.*\.(?:keras|h5)):([^/\\]+)$", location)
    return (Path(found[1]), found[2]) if found else (Path(location), None)


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except _DAMAGE as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise ConfigError(
            f"{path} must be a whole Keras model. Received: a damaged file or another ({reason})"
        ) from error


# === .keras ===


def _read_archive(path: Path, image_size: int) -> keras.Model:
    with zipfile.ZipFile(path) as archive:
        described = json.loads(_entry(archive, _CONFIG, _MAX_CONFIG, path))
        weights = _entry(archive, _WEIGHTS, _MAX_WEIGHTS, path)
    model = model_from(_description(described, path, len(weights)), image_size)
    with h5py.File(io.BytesIO(weights), "r") as file:
        _assign_from_tree(model, file, path)
    return model


def _entry(archive: zipfile.ZipFile, name: str, most: int, path: Path) -> bytes:
    if name not in archive.namelist():
        raise ConfigError(
            f"{path} must hold {name}. Received: {', '.join(archive.namelist()[:5]) or 'an empty archive'}"
        )
    entry = archive.getinfo(name)
    if entry.file_size > min(most, _MAX_COMPRESSION * entry.compress_size):
        raise ConfigError(
            f"{name} in {path} may have at most {most >> 20} MiB, and {_MAX_COMPRESSION} times its compressed size. "
            "Received: more"
        )
    return archive.read(name)


def _assign_from_tree(model: keras.Model, group: h5py.Group, path: Path) -> None:
    """Weights that lie in a group a layer, which is called by the class and counted: `layers/conv2d_1/vars/0`."""
    counts: dict[str, int] = {}
    parent: Any = next((member(group, name) for name in _LISTS_OF_LAYERS if name in group), {})
    for layer in model.layers:
        name = _snake_case(type(layer).__name__)
        number = counts[name] = counts.get(name, -1) + 1
        numbered = f"{name}_{number}" if number else name
        if not layer.weights:
            continue
        names = [name for name in (numbered, layer.name) if name in parent]
        if not names:
            raise ConfigError(f"{path} must hold the weights of every layer. Received: none of {layer.name!r}")
        found = member(parent, names[0])
        if isinstance(layer, keras.Model):
            _assign_from_tree(layer, found, path)
        else:
            arrays = [member(found, f"vars/{index}") for index in range(len(layer.weights))]
            _assign(layer, layer.weights, arrays, path)


def _snake_case(name: str) -> str:
    """A class's name as the archive calls its layers, "Conv2D" as conv2d and "BatchNormalization" as ..._normalization."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


# === .h5 ===


def _read_h5(path: Path, image_size: int) -> keras.Model:
    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
        if text is None:
            raise ConfigError(
                f"{path} must hold a whole model. Received: weights alone; save it by model.save({path.name!r})"
            )
        if len(text) > _MAX_CONFIG:
            raise ConfigError(f"the description in {path} may have at most {_MAX_CONFIG >> 20} MiB. Received: more")
        model = model_from(_description(json.loads(text), path, path.stat().st_size), image_size)
        group = member(file, "model_weights")
        for layer in model.layers:
            if layer.weights:
                of_layer = member(group, layer.name)
                arrays = [member(of_layer, _text(name)) for name in of_layer.attrs["weight_names"]]
                # As Keras wrote them: those that were trained come first.
                _assign(layer, [*layer.trainable_weights, *layer.non_trainable_weights], arrays, path)
    return model


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


# === Both ===


def _description(described: Any, path: Path, size: int) -> Description:
    if not isinstance(described, dict) or not {"class_name", "config"} <= described.keys():
        raise ConfigError(
            f"{path} must describe a model. Received: {type(described).__name__} without class and config"
        )
    # As many weights as bytes leave room for such as are compressed.
    return Description(described["class_name"], described["config"], str(path), most_weights=size)


def _assign(layer: keras.layers.Layer, variables: list[Any], arrays: list[Any], path: Path) -> None:
    shapes = [tuple(variable.shape) for variable in variables]
    received = [shape_of(array) for array in arrays]
    if shapes != received:
        raise ConfigError(
            f"the weights in {path} must fit its layers. Received: {received} for {layer.name!r}, which has {shapes}"
        )
    for variable, array in zip(variables, arrays, strict=True):
        values = np.asarray(array[()], np.float32)
        if not np.isfinite(values).all():
            raise ConfigError(f"the weights in {path} must be finite numbers. Received: others in {layer.name!r}")
        variable.assign(values)


def _with_output(model: keras.Model, output: str, path: Path) -> keras.Model:
    """The part of a model up to one layer, by default to its last map."""
    maps = {layer.name: layer.output for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4}
    names = [layer.name for layer in model.layers]
    chosen = list(maps)[-1] if output == "last" else output
    if chosen not in names:
        hint = did_you_mean(chosen, names, otherwise=f"; its last ones are {', '.join(names[-3:])}")
        raise ConfigError(f"`:LAYER` must name a layer of {path}. Received: {chosen!r}{hint}")
    if chosen not in maps:
        raise ConfigError(
            f"`:LAYER` must name a layer whose output is a map, (height, width, channels). Received: {chosen!r}"
        )
    return keras.Model(model.inputs, maps[chosen], name=model.name)
