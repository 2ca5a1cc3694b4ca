"""Which model the arrays of a published checkpoint belong to, by their names and shapes."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from egt_tf.errors import RunError
from egt_tf.published import names

Arrays = Mapping[str, np.ndarray]

# Of the published models: the first that an array starts with.
BACKBONE_PREFIXES = ("feature.", "base.")
# What pre-training classifies with, and what only training uses of a learned feature-wise transformation.
_CLASSIFIER = re.compile(r"(classifier|clasifier|linear)\.|fc\.(weight|bias)$")
_TRANSFORMATION = re.compile(r"\.(gamma|beta)$")


@dataclasses.dataclass(frozen=True)
class PublishedBackbone:
    """How a published backbone is recognised.

    Attributes:
        member: matches an array's name behind its prefix.
        blocks: of each stage.
        image_size: of the published models, in pixels.
        arguments: (arrays, prefix) -> arguments of our backbone.
        layers: prefix -> table of names.
    """

    member: re.Pattern
    blocks: tuple[int, ...]
    image_size: int
    arguments: Callable[[Arrays, str], dict[str, Any]]
    layers: Callable[[str], names.Layers]


@dataclasses.dataclass(frozen=True)
class PublishedHead:
    """How a published head is recognised.

    Attributes:
        member: matches an array's name.
        arguments: arrays -> arguments of our head.
        layers: table of names.
        needs_ways: whether the shapes depend on the ways of an episode.
    """

    member: re.Pattern
    arguments: Callable[[Arrays], dict[str, Any]]
    layers: names.Layers
    needs_ways: bool = False


def backbone_prefix(arrays: Arrays) -> str:
    """What the names of the backbone's arrays begin with; nothing if the backbone was saved alone."""
    return next((prefix for prefix in BACKBONE_PREFIXES if any(name.startswith(prefix) for name in arrays)), "")


def candidate_backbones(arrays: Arrays) -> list[str]:
    """Names of our backbones whose published arrays are so called; Conv4 and Conv4NP differ in nothing but their maps.

    Raises:
        RunError: there are none.
    """
    prefix = backbone_prefix(arrays)
    inner = [name.removeprefix(prefix) for name in arrays if name.startswith(prefix)]
    found = [name for name, backbone in BACKBONES.items() if any(map(backbone.member.match, inner))]
    if not found:
        raise RunError(
            "the arrays of a checkpoint must be named as those of a published backbone (trunk.0.C.weight, "
            f"trunk.4.C1.weight, layer1.0.conv1.weight, ...). Received: {', '.join(list(arrays)[:5])}"
        )
    # ResNets of simple blocks are told apart by their number.
    numbers = [int(match[1]) for match in map(_SIMPLE_BLOCK.match, inner) if match]
    exact = [name for name in found if numbers and sum(BACKBONES[name].blocks) == max(numbers) - 3]
    return exact or found


def detect_head(arrays: Arrays) -> str | None:
    """Name of our head that the arrays hold; None if they hold a backbone only."""
    return next((name for name, head in HEADS.items() if any(map(head.member.match, arrays))), None)


def unused(arrays: Arrays, has_head: bool) -> list[str]:
    """Arrays that inference does not need: the classifier of a pre-training, and learned noise on features."""
    return [name for name in arrays if _TRANSFORMATION.search(name) or (not has_head and _CLASSIFIER.match(name))]


def lookup(table: Mapping[str, Any], part: str, name: str) -> Any:
    """The entry called `name`.

    Raises:
        RunError: no published part has that name.
    """
    if name not in table:
        raise RunError(f"a published {part} must be one of {', '.join(table)}. Received: {name!r}")
    return table[name]


def _shape(arrays: Arrays, name: str, axis: int = 0) -> int | None:
    """Size of an axis; None where there is no such array or axis, which is found again when names are compared."""
    shape = arrays[name].shape if name in arrays else ()
    return int(shape[axis]) if len(shape) > axis else None


def _given(**arguments: int | None) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if value is not None}


def _resnet_arguments(blocks: Sequence[int]) -> Callable[[Arrays, str], dict[str, Any]]:
    first = [4 + sum(blocks[:stage]) for stage in range(len(blocks))]

    def arguments(arrays: Arrays, prefix: str) -> dict[str, Any]:
        widths = [_shape(arrays, f"{prefix}trunk.{number}.C1.weight") for number in first]
        return {} if None in widths else {"widths": widths}

    return arguments


def _resnet12_arguments(arrays: Arrays, prefix: str) -> dict[str, Any]:
    widths = [_shape(arrays, f"{prefix}layer{stage}.0.conv1.weight") for stage in (1, 2, 3, 4)]
    return {} if None in widths else {"widths": widths}


def _graph_arguments(arrays: Arrays) -> dict[str, Any]:
    return _given(
        ways=_shape(arrays, "gnn.layer_last.fc.weight"),
        embedding=_shape(arrays, "fc.0.weight"),
        adjacency_width=_shape(arrays, "gnn.w_comp_last.conv2d_4.weight"),
        growth=_shape(arrays, "gnn.layer_l0.fc.weight"),
    )


_CONV_BLOCK = re.compile(r"trunk\.\d+\.(C|BN)\.")
_SIMPLE_BLOCK = re.compile(r"trunk\.(\d+)\.(C1|C2|BN1|BN2|shortcut|BNshortcut)\.")
_BASIC_BLOCK = re.compile(r"layer\d\.0\.(conv|bn)\d\.")
_SIMPLE_BLOCKS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2)}

BACKBONES: Mapping[str, PublishedBackbone] = {
    **{
        name: PublishedBackbone(
            _CONV_BLOCK,
            (1, 1, 1, 1),
            84,
            lambda arrays, prefix: _given(width=_shape(arrays, f"{prefix}trunk.0.C.weight")),
            names.conv_layers,
        )
        for name in ("conv4", "conv4np")
    },
    **{
        name: PublishedBackbone(
            _SIMPLE_BLOCK,
            blocks,
            224,
            _resnet_arguments(blocks),
            functools.partial(names.resnet_layers, blocks),
        )
        for name, blocks in _SIMPLE_BLOCKS.items()
    },
    "resnet12": PublishedBackbone(_BASIC_BLOCK, (1, 1, 1, 1), 84, _resnet12_arguments, names.resnet12_layers),
}
HEADS: Mapping[str, PublishedHead] = {
    "relation": PublishedHead(
        re.compile(r"relation_module\."),
        lambda arrays: _given(hidden=_shape(arrays, "relation_module.fc1.weight")),
        names.relation_layers(),
    ),
    "graph": PublishedHead(re.compile(r"gnn\.|fc\.[01]\."), _graph_arguments, names.graph_layers(), needs_ways=True),
    "cross_attention": PublishedHead(
        re.compile(r"cam\."),
        lambda arrays: _given(base_classes=_shape(arrays, "clasifier.weight")),
        names.cross_attention_layers(),
    ),
}
