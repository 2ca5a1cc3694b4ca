"""Weight files: .npz archives of named arrays, written whole, read without running code."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from egt_tf.backbones.batch_noise import noise_layers
from egt_tf.backbones.feature_transformation import transformations
from egt_tf.backbones.neck import embedding_of, has_neck
from egt_tf.errors import RunError
from egt_tf.files import atomic_write
from egt_tf.keras_api import keras


class Partitioned(Protocol):
    """A model whose weights are named: the name of each of its parts -> a Keras model. One is the "backbone".

    Example:
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=0)
        >>> sorted(model.parts)
        ['backbone', 'relate', 'score']
    """

    @property
    def parts(self) -> Mapping[str, keras.Model]: ...


# What reading a damaged archive fails with. RuntimeError: damage that looks like encryption or another method of
# compression; AttributeError and TypeError: a file that is one array and no archive.
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error)


def named_weights(model: Partitioned) -> dict[str, tf.Variable]:
    """Every weight of the model under "part/layer/weight", e.g. "backbone/block1_conv/kernel".

    Those of the backbone's feature-wise transformations are a part of their own, "transformation", and so are those of
    its noise, "noise": a backbone with them and one without take each other's weights.

    Example:
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=0)
        >>> named_weights(model)["backbone/block1_conv/kernel"].shape
        TensorShape([3, 3, 3, 2])
    """
    backbone = model.parts["backbone"]
    own_part = {
        id(weight): part
        for part, layers in (("transformation", transformations(backbone)), ("noise", noise_layers(backbone)))
        for layer in layers
        for weight in layer.weights
    }
    return {
        f"{own_part.get(id(weight), part)}/{name}": weight
        for part, sub in model.parts.items()
        for name, weight in layer_weights(sub)
    }


def layer_weights(model: keras.Model) -> Iterator[tuple[str, tf.Variable]]:
    """Every weight of a Keras model with its name, "layer/weight"; those of a model in it are "model/layer/weight".

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(2, name="scores", input_shape=(3,))])
        >>> [name for name, _ in layer_weights(model)]
        ['scores/kernel', 'scores/bias']
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from ((f"{layer.name}/{name}", weight) for name, weight in layer_weights(layer))
        else:
            yield from ((f"{layer.name}/{name}", w) for name, w in zip(_names(layer), layer.weights, strict=True))


def _names(layer: keras.layers.Layer) -> list[str]:
    """The names of a layer's weights in it; those of its parts where it has several of one name: "query/kernel"."""
    paths = [w.name.removesuffix(":0").split("/") for w in layer.weights]
    last = [path[-1] for path in paths]
    return last if len(set(last)) == len(last) else ["/".join(path[-2:]) for path in paths]


def weight_arrays(model: Partitioned) -> dict[str, np.ndarray]:
    """The values of `named_weights`.

    Example:
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=0)
        >>> weight_arrays(model)["backbone/block1_conv/bias"].dtype
        dtype('float32')
    """
    return {name: weight.numpy() for name, weight in named_weights(model).items()}


def not_finite_arrays(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """The names of the arrays with a number that is not finite; arrays of anything but floats have none.

    Example:
        >>> not_finite_arrays({"kernel": np.array([1.0, np.nan]), "bias": np.zeros(2), "calls": np.array(3)})
        ['kernel']
    """
    return [name for name, array in arrays.items() if array.dtype.kind in "fc" and not np.isfinite(array).all()]


def assign_weights(model: Partitioned, arrays: Mapping[str, np.ndarray], origin: str) -> None:
    """Sets every weight of the model, or none.

    Args:
        model: the model.
        arrays: one array for each name of `named_weights`, of its shape.
        origin: where the arrays come from, for the messages.

    Raises:
        RunError: names are missing or too many, a shape or a kind of number differs (the file is of another
            architecture), or a value is not finite.

    Example:
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> models = [
        ...     EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=seed)
        ...     for seed in (0, 1)
        ... ]
        >>> assign_weights(models[0], weight_arrays(models[1]), origin="another model")
        >>> bool(np.array_equal(models[0].get_weights()[0], models[1].get_weights()[0]))
        True
    """
    _assign(named_weights(model), arrays, origin)


def assign_backbone(model: Partitioned, arrays: Mapping[str, np.ndarray], origin: str) -> None:
    """As `assign_weights`, for the weights of the backbone alone; arrays of other parts are left aside.

    Where the model's backbone has a neck and the arrays are of a backbone without one, its embedding is set.

    Example:
        >>> from egt_tf.episodic_model import EpisodicModel
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=0)
        >>> assign_backbone(model, {**weight_arrays(model), "classifier/scores/bias": np.zeros(5)}, "a pre-training")
    """
    weights, arrays = (
        {name: value for name, value in values.items() if name.startswith("backbone/")}
        for values in (_backbone_weights(model, arrays), arrays)
    )
    _assign(weights, arrays, origin)


def _backbone_weights(model: Partitioned, arrays: Mapping[str, np.ndarray]) -> dict[str, tf.Variable]:
    """The weights that the arrays are for: the whole model's, or those of the embedding under the names of its own."""
    weights, backbone = named_weights(model), model.parts["backbone"]
    prefix = f"backbone/{embedding_of(backbone).name}/"
    if not has_neck(backbone) or any(name.startswith(prefix) for name in arrays):
        return weights
    return {f"backbone/{name[len(prefix) :]}": w for name, w in weights.items() if name.startswith(prefix)}


def _assign(weights: Mapping[str, tf.Variable], arrays: Mapping[str, np.ndarray], origin: str) -> None:
    problems = [f"missing {name}" for name in weights if name not in arrays]
    problems += [f"unknown {name}" for name in arrays if name not in weights]
    problems += [
        f"{name} is {arrays[name].shape}, not {tuple(w.shape)}"
        for name, w in weights.items()
        if name in arrays and arrays[name].shape != tuple(w.shape)
    ]
    problems += [
        f"{name} is {arrays[name].dtype}, not {w.dtype.name}"
        for name, w in weights.items()
        if name in arrays and arrays[name].dtype.kind != w.dtype.as_numpy_dtype().dtype.kind
    ]
    known = {name: arrays[name] for name in weights if name in arrays}
    problems += [f"{name} holds values that are not finite" for name in not_finite_arrays(known)]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise RunError(
            f"the weights in {origin} must fit the architecture of the run's config.yaml. Received: "
            f"{'; '.join(problems[:3])}{more}"
        )
    for name, weight in weights.items():
        weight.assign(arrays[name])


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
    """Writes an .npz archive, whole or not at all.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_arrays(f"{folder}/weights.npz", {"kernel": np.ones(3)})
        ...     load_arrays(f"{folder}/weights.npz")
        {'kernel': array([1., 1., 1.])}
    """
    # By way of memory: an archive that could not be finished complains a second time when it is collected.
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    with atomic_write(path) as file:
        file.write(archive.getbuffer())


def load_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads an .npz archive and checks every checksum in it.

    Raises:
        RunError: the file is missing, truncated or damaged, or holds Python objects, which are never loaded.

    Example:
        >>> load_arrays("runs/missing/best.npz")
        Traceback (most recent call last):
        egt_tf.errors.RunError: the weight file runs/missing/best.npz must exist. Received: no such file
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"the weight file {path} must exist. Received: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: _array(name, archive[name]) for name in archive.files}
    except _DAMAGE as error:
        raise RunError(
            f"the weight file {path} is damaged or no weight file ({error}); restore it or train again"
        ) from error


def _array(name: str, member: np.ndarray | bytes) -> np.ndarray:
    # NumPy hands back the bytes of members that are no arrays.
    if not isinstance(member, np.ndarray):
        raise ValueError(f"{name!r} in it is no array")
    return member
