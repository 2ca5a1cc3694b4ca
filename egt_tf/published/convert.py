"""Turns a checkpoint of the published code into a run."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.config import EpisodeConfig, RunConfig, config_from_dict
from egt_tf.environment import environment
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import RunError
from egt_tf.files import write_json
from egt_tf.keras_api import keras
from egt_tf.published import detect
from egt_tf.published.checkpoint import load_checkpoint
from egt_tf.published.layouts import PublishedArray, published_arrays
from egt_tf.runs import RunFolder
from egt_tf.weights import assign_weights, named_weights, not_finite_arrays, save_arrays, weight_arrays

DEFAULT_HEAD = "relation"
# Of the initial weights of a head that the checkpoint does not hold.
SEED = 1
_LISTED = 12


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the caller says about a checkpoint; None is found out from its arrays, or is as published.

    Attributes:
        head: name of the head; "relation" if the checkpoint holds a backbone only.
        backbone: name of the backbone. The arrays of Conv4 and Conv4NP are called the same: where a relation module
            follows, its shape tells them apart, else it is conv4.
        image_size: in pixels; 84 for Conv4, Conv4NP and ResNet-12, 224 for ResNet-10 and ResNet-18.
        ways: classes of an episode; the arrays of a graph network say it, else it is 5.
        shots: support images a class; 5 by default.

    Example:
        >>> Choices(backbone="conv4np", image_size=112).head is None
        True
    """

    head: str | None = None
    backbone: str | None = None
    image_size: int | None = None
    ways: int | None = None
    shots: int | None = None


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a checkpoint was found to be.

    Attributes:
        config: the configuration of the run.
        model: the model with the weights of the checkpoint.
        unused: names of arrays that the model does not need.
        trained_head: whether the checkpoint held the head; otherwise it has initial weights.

    Example:
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "prototype", 32)
        >>> Conversion(RunConfig(), model, unused=("classifier.bias",), trained_head=False).unused
        ('classifier.bias',)
    """

    config: RunConfig
    model: EpisodicModel
    unused: tuple[str, ...]
    trained_head: bool


def convert_checkpoint(checkpoint: str | os.PathLike, run: RunFolder, choices: Choices = Choices()) -> Conversion:
    """Writes a run with the weights of a published checkpoint, whole or not at all.

    The run holds a configuration, `best.npz` and `environment.json`, which says where it comes from; no support set.

    Args:
        checkpoint: see `load_checkpoint`. A whole model, or a backbone alone (pre-training).
        run: the folder to write, which must hold no run.
        choices: what the arrays do not say, or say wrongly.

    Raises:
        RunError: `run` holds a run; the checkpoint cannot be read; arrays are missing, unknown or of another shape,
            all of which are named.
        ConfigError: the choices make no model.
        OSError: a file cannot be written.

    Notes:
        What a checkpoint does not say is as published: the ImageNet stem, the mean squared error of RelationNet.
        A relation module's `sigmoid` is not part of our scores.

    Example:
        >>> convert_checkpoint("missing.npz", RunFolder(Path("runs/converted")))
        Traceback (most recent call last):
        egt_tf.errors.RunError: the checkpoint missing.npz must be a file. Received: no such file
    """
    run.check_new()
    conversion = convert_arrays(load_checkpoint(checkpoint), choices, str(checkpoint))
    origin = {
        "checkpoint": str(checkpoint),
        "sha256": hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest(),
        "unused": list(conversion.unused),
        "trained_head": conversion.trained_head,
    }
    with run.removed_on_error():
        write_json(run.environment_file, {**environment(), "origin": origin})
        save_arrays(run.best_file, weight_arrays(conversion.model))
        # Last: a folder with a configuration is a run.
        run.create(conversion.config)
    return conversion


def convert_arrays(
    arrays: Mapping[str, np.ndarray], choices: Choices = Choices(), origin: str = "the checkpoint"
) -> Conversion:
    """The model that arrays under their published names make.

    Args:
        arrays: as `load_checkpoint` gives them.
        choices: what the arrays do not say, or say wrongly.
        origin: where the arrays come from, for the messages.

    Raises:
        RunError, ConfigError: see `convert_checkpoint`.

    Example:
        >>> arrays = {}
        >>> for block, inputs in enumerate((3, 4, 4, 4)):
        ...     arrays[f"trunk.{block}.C.weight"] = np.zeros((4, inputs, 3, 3), np.float32)
        ...     for name in ("C.bias", "BN.weight", "BN.bias", "BN.running_mean", "BN.running_var"):
        ...         arrays[f"trunk.{block}.{name}"] = np.ones(4, np.float32)
        >>> found = convert_arrays(arrays)
        >>> found.config.model.backbone, found.trained_head
        ({'name': 'conv4', 'width': 4}, False)
    """
    has_head = detect.detect_head(arrays) is not None
    unused = detect.unused(arrays, has_head)
    arrays = {name: array for name, array in arrays.items() if name not in unused}
    candidates = []
    for config in _configurations(arrays, choices):
        model = EpisodicModel.build_from(config.model.backbone, config.model.head, config.data.image_size, seed=SEED)
        wanted = _wanted_arrays(model, config, arrays, has_head)
        candidates.append((config, model, wanted, _problems(wanted, arrays)))
    # The first of those that fit best.
    config, model, wanted, problems = min(candidates, key=lambda candidate: len(candidate[-1]))
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        head = f" and the head {config.model.head['name']}" if has_head else " alone"
        raise RunError(
            f"the arrays of {origin} must be those of {config.model.backbone['name']} at "
            f"{config.data.image_size} px{head}. Received: {'; '.join(problems[:_LISTED])}{more}"
        )
    values = {name: source.read(arrays[source.name]).astype(np.float32) for name, source in wanted.items()}
    assign_weights(model, {**weight_arrays(model), **values}, origin)
    return Conversion(config, model, tuple(unused), has_head)


def _configurations(arrays: Mapping[str, np.ndarray], choices: Choices) -> list[RunConfig]:
    """The configurations that the arrays may belong to, the likeliest first."""
    prefix = detect.backbone_prefix(arrays)
    head_name = choices.head or detect.detect_head(arrays) or DEFAULT_HEAD
    published_head = detect.lookup(detect.HEADS, "head", head_name)
    head = {"name": head_name, **published_head.arguments(arrays)}
    ways = choices.ways or head.get("ways") or EpisodeConfig.ways
    if published_head.needs_ways:
        head["ways"] = ways
    configs = []
    for name in [choices.backbone] if choices.backbone else detect.candidate_backbones(arrays):
        published_backbone = detect.lookup(detect.BACKBONES, "backbone", name)
        configs.append(
            config_from_dict(
                {
                    "data": {"image_size": choices.image_size or published_backbone.image_size},
                    "episode": {"ways": ways, "shots": choices.shots or EpisodeConfig.shots},
                    "model": {"backbone": {"name": name, **published_backbone.arguments(arrays, prefix)}, "head": head},
                },
                origin="the configuration of the checkpoint",
            )
        )
    return configs


def _wanted_arrays(
    model: EpisodicModel, config: RunConfig, arrays: Mapping[str, np.ndarray], has_head: bool
) -> dict[str, PublishedArray]:
    """The published array of each weight of the model; without those of the head if the checkpoint has none."""
    prefix = detect.backbone_prefix(arrays)
    tables = {"backbone": detect.BACKBONES[config.model.backbone["name"]].layers(prefix)}
    if has_head:
        layers = detect.HEADS[config.model.head["name"]].layers
        tables.update({part: layers for part in ("relate", "score", "auxiliary")})
    shapes: dict[str, dict[str, Any]] = {part: {} for part in tables}
    for name, weight in named_weights(model).items():
        part, _, inner = name.partition("/")
        if part in tables:
            shapes[part][inner] = tuple(weight.shape)
    return {
        f"{part}/{inner}": source
        for part, layers in tables.items()
        for inner, source in published_arrays(shapes[part], layers, flattened_maps(model.head.score_model)).items()
    }


def flattened_maps(model: keras.Model) -> dict[str, tuple[int, ...]]:
    """(height, width, channels) of the map that the first dense layer of a relation module reads flattened."""
    flatten = next((layer for layer in model.layers if layer.name == "flatten"), None)
    return {} if flatten is None else {"fc1": tuple(flatten.input_shape[-3:])}


def _problems(wanted: Mapping[str, PublishedArray], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """What is wrong with the arrays, one line each: missing, unknown, of another shape or kind, not finite."""
    names = {source.name for source in wanted.values()}
    problems = [f"missing {source.name}" for source in wanted.values() if source.name not in arrays]
    problems += [f"unknown {name}" for name in arrays if name not in names]
    not_finite = frozenset(not_finite_arrays(arrays))
    for source in wanted.values():
        array = arrays.get(source.name)
        if array is None:
            continue
        if array.shape not in source.shapes:
            problems.append(f"{source.name} is {array.shape}, not {source.shapes[0]}")
        elif array.dtype.kind != "f":
            problems.append(f"{source.name} is {array.dtype}, not floating point")
        elif source.name in not_finite:
            problems.append(f"{source.name} holds values that are not finite")
    return problems
